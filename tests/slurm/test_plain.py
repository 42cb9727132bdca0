"""srun and sbatch without TorchX, on a real Slurm: docs/launching/slurm.md."""

import json
from pathlib import Path

import pytest

from tests.messages import mentions
from tests.pages import ROOT, blocks, command
from tests.slurm.jobs import Job, call, output
from tests.slurm.training import Run

pytestmark = pytest.mark.usefixtures("slurm")


def test_tasks_of_srun_train_together(undisturbed: Run) -> None:
    assert undisturbed.starts[0]["world_size"] == 2
    assert undisturbed.newest_step == undisturbed.steps


def test_a_job_that_is_told_to_end_is_requeued_and_goes_on(run: Run) -> None:
    words = command("slurm", "sbatch", DIR=run.data, RUN=run.out, MORE=run.options)
    job = Job(run.where, output(run.where, words[0], "--parsable", *words[1:]))
    job.until(run.has_saved)
    # Slurm sends this before the time limit, by the template's --signal.
    output(run.where, *command("slurm", "scancel --batch", JOB=job.number))
    assert job.wait() == ({"COMPLETED"}, {"0:0"}), job.log
    assert job.facts("Restarts") == ["1"]
    first, second = run.starts
    assert f"told to end (SIGTERM) at step {second['step']} of {run.steps}" in job.log
    assert second["step"] > first["step"]
    assert run.is_undisturbed()


def test_an_error_of_the_users_is_the_jobs(run: Run) -> None:
    words = command("slurm", "sbatch", DIR=run.where / "nowhere", RUN=run.out, MORE=run.options)
    job = Job(run.where, output(run.where, words[0], "--parsable", *words[1:]))
    states, _ = job.wait()
    assert states == {"FAILED"}
    assert job.facts("Restarts") == ["0"]
    assert [line for line in job.log.splitlines() if line.startswith("train: ")] == [
        f"train: {run.where}/nowhere/schema.json: not found; a data set is a directory with a schema.json, as data_prep"
        " writes it"
    ]
    assert "Traceback" not in job.log


def test_tasks_that_are_not_spread_evenly_are_refused(run: Run) -> None:
    words = command("slurm", "srun --nodes=2", DIR=run.data, RUN=run.out, MORE=run.options)
    words[words.index("--ntasks-per-node=1")] = "--ntasks=3"
    process = call(run.where, *words)
    assert process.returncode
    [line] = [line for line in process.stderr.splitlines() if line.startswith("train: ")]
    assert mentions(line, 3, "2,1")


def test_srun_starts_torchrun(run: Run) -> None:
    [script] = blocks(ROOT / "docs/launching/slurm.md", "bash")
    (run.where / "job.sh").write_text(script)
    options: list[str | Path] = ["--data", run.data, "--out", run.out, *run.options.split()]
    job = Job(run.where, output(run.where, "sbatch", "--parsable", "job.sh", *options))
    assert job.wait() == ({"COMPLETED"}, {"0:0"}), job.log
    assert json.loads((run.out / "environment.json").read_text())["world_size"] == 2
    assert run.is_undisturbed()
