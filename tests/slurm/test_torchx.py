"""Jobs that TorchX submits to a real Slurm, followed to their end: docs/launching/slurm.md."""

from pathlib import Path

import pytest

from tests.messages import mentions
from tests.pages import command
from tests.slurm.jobs import Job, call, output
from tests.slurm.training import Run
from tests.waiting import free_port

pytestmark = pytest.mark.usefixtures("slurm")


def test_cancelled_on_two_nodes_then_preempted_on_one_and_finished(run: Run) -> None:
    values: dict[str, str | Path | int] = {"DIR": run.data, "RUN": run.out, "PORT": free_port(), "MORE": run.options}
    job = Job(run.where, output(run.where, *command("slurm", "torchx run -s slurm components", **values)))
    job.until(run.has_saved)
    output(run.where, *command("slurm", "torchx cancel", HANDLE=job.handle))
    states, _ = job.wait()
    assert states == {"CANCELLED"}
    assert f"told to end (SIGTERM) at step {run.newest_step} of {run.steps}" in job.log
    assert not run.processes

    job = Job(run.where, output(run.where, *command("slurm", "torchx run -s slurm -cfg", **values)))
    job.until(lambda: run.has_saved(start=2))
    output(run.where, *command("slurm", "scontrol requeue", JOB=job.number))
    assert job.wait() == ({"COMPLETED"}, {"0:0"}), job.log
    job.wait_for_accounting()
    assert "SUCCEEDED" in output(run.where, *command("slurm", "torchx status", HANDLE=job.handle))
    assert job.handle in output(run.where, *command("slurm", "torchx list"))
    assert f"{run.steps}/{run.steps} steps" in output(
        run.where, *command("slurm", "torchx log HANDLE", HANDLE=job.handle)
    )
    assert "| NE " in output(run.where, *command("slurm", "torchx log --streams", HANDLE=job.handle))

    steps = [start["step"] for start in run.starts]
    assert steps == sorted({0, *steps}), "each start goes on from what the one before has saved"
    assert [start["world_size"] for start in run.starts] == [2, 2, 2]
    assert run.is_undisturbed()


def test_a_job_with_an_error_of_the_users_fails_and_says_it(run: Run, tmp_path: Path) -> None:
    words = command("slurm", "torchx run -s slurm -cfg", DIR=tmp_path, RUN=run.out, MORE=run.options)
    at = words.index("-j")
    followed = call(run.where, *words[:2], "--wait", *words[2:at], "--restarts", "0", *words[at:])
    assert followed.returncode == 1
    assert "Job finished: FAILED" in followed.stderr
    job = Job(run.where, followed.stdout)
    assert job.wait() == ({"FAILED"}, {"1:0"})
    assert mentions(job.log, "train", f"{tmp_path}/schema.json", "not found")
    assert not run.out.exists()
