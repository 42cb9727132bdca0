"""srun and sbatch without TorchX, on a real Slurm: docs/launching/slurm.md."""

import json
import os
from pathlib import Path

import pytest

from tests.messages import mentions
from tests.pages import ROOT, blocks, command
from tests.slurm.jobs import Job, call, output
from tests.slurm.training import Run

COUNT_CPUS = "import os; print(len(os.sched_getaffinity(0)))"

pytestmark = pytest.mark.usefixtures("slurm")


def test_tasks_of_srun_train_together(undisturbed: Run) -> None:
    assert undisturbed.starts[0]["world_size"] == 2
    assert undisturbed.newest_step == undisturbed.steps


def test_a_job_that_is_told_to_end_is_requeued_and_goes_on(run: Run) -> None:
    words = command("slurm", "sbatch --nodes=2 --ntasks-per-node=1", DIR=run.data, RUN=run.out, MORE=run.options)
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


def test_a_task_runs_on_the_cpus_that_it_was_given(undisturbed: Run) -> None:
    counted = [output(undisturbed.where, "srun", f"--cpus-per-task={n}", "python", "-c", COUNT_CPUS) for n in (1, 2)]
    assert [int(cpus) for cpus in counted] == [1, 2]


def test_an_error_of_the_users_is_the_jobs_also_in_a_container(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By an Apptainer that is none, as it is not installed, with further options of srun."""
    container = command("slurm", "CONTAINER=")[0]
    apptainer = tmp_path / "bin" / "apptainer"
    apptainer.parent.mkdir()
    apptainer.write_text(
        """#!/bin/sh\ntouch contained\nuntil [ "${1%.sif}" != "$1" ]; do shift; done\nshift\nexec "$@"\n"""
    )
    apptainer.chmod(0o755)
    monkeypatch.setenv("PATH", f"{apptainer.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("CONTAINER", container.removeprefix("CONTAINER="))
    monkeypatch.setenv("SRUN_ARGS", "--input=none --error=slurm-%j.err")
    words = command(
        "slurm", "sbatch --nodes=2 --ntasks-per-node=1", DIR=run.where / "nowhere", RUN=run.out, MORE=run.options
    )
    job = Job(run.where, output(run.where, words[0], "--parsable", *words[1:]))
    states, _ = job.wait()
    assert states == {"FAILED"}
    assert (run.where / "contained").exists()
    assert (run.where / f"slurm-{job.number}.err").read_text()
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
    _, script = blocks(ROOT / "docs/launching/slurm.md", "bash")
    (run.where / "job.sh").write_text(script)
    options: list[str | Path] = ["--data", run.data, "--out", run.out, *run.options.split()]
    job = Job(run.where, output(run.where, "sbatch", "--parsable", "job.sh", *options))
    assert job.wait() == ({"COMPLETED"}, {"0:0"}), job.log
    assert json.loads((run.out / "environment.json").read_text())["world_size"] == 2
    assert run.is_undisturbed()
