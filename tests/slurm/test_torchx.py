"""Jobs that TorchX submits to a real Slurm, followed to their end: docs/launching/slurm.md."""

import os
from pathlib import Path

import pytest

from tests.entry_points.launched import environment_of
from tests.launching.dry_runs import batch_script
from tests.messages import mentions
from tests.pages import ROOT, command, commands
from tests.slurm.jobs import Job, call, output
from tests.slurm.training import Run

PAGE = ROOT / "docs/launching/slurm.md"
NETWORK = "NCCL_IB_HCA=mlx5_0,mlx5_1,OTHER=1"
TORCHX = "torchx run -s slurm -cfg time="

pytestmark = pytest.mark.usefixtures("slurm")


def test_the_jobs_of_the_page_are_accepted(undisturbed: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(undisturbed.where)
    lines = [line for line in commands(PAGE) if line.startswith("torchx run") and "--overlay" not in line]
    assert len(lines) == 8
    for line in lines:
        script = undisturbed.where / "job.sh"
        script.write_text(batch_script(line))
        output(undisturbed.where, "sbatch", "--test-only", script)
    for words in (command("slurm", "sbatch --nodes=2 --ntasks-per-node=8"), command("slurm", "SRUN_ARGS=")[1:]):
        output(undisturbed.where, words[0], "--test-only", *words[1:])
    script.write_text(script.read_text().replace("--gpus-per-node=8", "--gpus-per-node=9"))
    assert call(undisturbed.where, "sbatch", "--test-only", script).returncode


def test_cancelled_on_two_nodes_then_preempted_on_one_and_finished(run: Run) -> None:
    values: dict[str, str | Path | int] = {"DIR": run.data, "RUN": run.out, "MORE": run.options}
    words = command("slurm", "torchx run -s slurm -cfg partition=gpu,time=", **values)
    (run.where / "own.sbatch").write_text('#SBATCH --nice=7 --comment="two words"\n')
    # One process on each node, on two CPUs that the machine has.
    at, end = words.index("-j"), words.index("--")
    words[at:end] = ["-j", "2x1", "--gpu", "8", "--cpu", "2", "--env", NETWORK, "--overlay", "own.sbatch"]
    job = Job(run.where, output(run.where, *words))
    job.until(run.has_saved)
    assert (job.facts("Nice"), job.facts("Comment")) == (["7", "7"], ["two", "two"])
    ranks = [(pid, variables) for pid in run.processes if "RANK" in (variables := environment_of(pid))]
    assert len(ranks) == 2
    for pid, variables in ranks:
        assert variables["NCCL_IB_HCA"] == "mlx5_0,mlx5_1"
        assert variables["CUDA_VISIBLE_DEVICES"] == "0,1,2,3,4,5,6,7"
        assert len(os.sched_getaffinity(pid)) == 2
    assert "NCCL_IB_HCA" not in job.log
    output(run.where, *command("slurm", "torchx cancel", HANDLE=job.handle))
    states, _ = job.wait()
    assert states == {"CANCELLED"}
    assert f"told to end (SIGTERM) at step {run.newest_step} of {run.steps}" in job.log
    assert not run.processes

    job = Job(run.where, output(run.where, *command("slurm", TORCHX, **values)))
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
    words = command("slurm", TORCHX, DIR=tmp_path, RUN=run.out, MORE=run.options)
    at = words.index("-j")
    followed = call(run.where, *words[:2], "--wait", *words[2:at], "--max_retries", "1", *words[at:])
    assert followed.returncode == 1
    assert "Job finished: FAILED" in followed.stderr
    job = Job(run.where, followed.stdout)
    assert job.wait() == ({"FAILED"}, {"2:0"})
    assert job.facts("Restarts") == ["0"]
    assert mentions(job.log, "train", f"{tmp_path}/schema.json", "not found")
    assert not run.out.exists()
