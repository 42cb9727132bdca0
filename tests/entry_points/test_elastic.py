"""Runs that lose processes or are preempted, under real launchers, have the result of an undisturbed run."""

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.datasets import make_dataset
from tests.entry_points import processes
from tests.entry_points.launched import Launched, launched, listens, parent
from tests.entry_points.processes import ROOT, complaint
from tests.faults.outcome import newest_step, read_outcome, read_starts
from tests.messages import mentions
from tests.pages import command
from tests.waiting import free_port

ROWS, BATCH, EPOCHS = 2400, 48, 4
STEPS = EPOCHS * ROWS // BATCH
EVERY = 10
"""Steps between checkpoints."""

LAUNCHERS = re.compile(r'File "[^"]*/(torchx/|torch/distributed/(run\.py|launcher/|elastic/))')
"""Lines of tracebacks that come from the launchers. TorchX may have several, since its threads read files that torchrun
has not finished."""

OPTIONS = (
    f"--batch-size {BATCH} --log-every 5 --checkpoint.every-steps {EVERY} --timeout-s 60 --model.head-mlp 16"
    " --model.bottom-mlp 8 --reader.shuffle-rows 500 --optimizer.dense-schedule.warmup-steps 20"
    " --arm multibalance:beta=0.1"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data") / "data", rows=ROWS)


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Outcome of a run on two ranks, without a launcher."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    words = torchrun(data, out)
    process = processes.python(*words[words.index("-m") + 1 :], processes=2)
    assert process.returncode == 0, process.stderr
    return read_outcome(out)


def python(data: Path, out: Path) -> list[str]:
    return command("local", "python -m dlrm_mtl.train", **values(data, out, epochs=100))


def torchrun(data: Path, out: Path) -> list[str]:
    return command("torchrun", "torchrun --standalone", **values(data, out))


def torchrun_with_restarts(data: Path, out: Path) -> list[str]:
    return command("torchrun", "python -m dlrm_mtl.torchrun --standalone", **values(data, out))


def torchx(data: Path, out: Path, j: str = "1x2", port: int | None = None) -> list[str]:
    words = command(
        "local",
        f"torchx run -s local_cwd components/train.py:train -j {j}",
        **values(data, out),
        PORT=port or free_port(),
    )
    return [*words[:4], "-cfg", f"log_dir={out.parent / 'logs'}", *words[4:]]


def values(data: Path, out: Path, epochs: int = EPOCHS) -> dict[str, str | Path]:
    return {"DIR": data, "RUN": out, "MORE": f"--epochs {epochs} {OPTIONS}"}


def await_training(launch: Launched, out: Path, start: int) -> None:
    """Waits until the run was started this many times and has written a checkpoint since."""
    launch.until(lambda: len(read_starts(out)) == start and newest_step(out) > read_starts(out)[-1]["step"] + EVERY)


def is_agent(launch: Launched) -> bool:
    """Whether torchrun has read its options and looks for the other nodes."""
    return "pt_elastic" in [Path(f"/proc/{pid}/comm").read_text().strip() for pid in launch.processes]


@pytest.mark.parametrize(("j", "killed"), [("1x2", 1), ("2x1", 0)])
def test_a_killed_rank_is_started_again(
    data: Path, undisturbed: dict[str, Any], tmp_path: Path, j: str, killed: int
) -> None:
    out = tmp_path / "run"
    with launched(out, tmp_path / "output", *torchx(data, out, j)) as job:
        await_training(job, out, 1)
        os.kill(job.ranks[killed], signal.SIGKILL)
        assert job.wait() == 0, job.output
        assert "Job finished: SUCCEEDED" in job.output
        assert not job.processes
    steps = [start["step"] for start in read_starts(out)]
    assert len(steps) == 2
    assert 0 == steps[0] < steps[1], "the second start goes on from what the first has saved"
    assert read_outcome(out) == undisturbed


def test_a_lost_node_leaves_the_run_to_the_other(data: Path, tmp_path: Path) -> None:
    out, port = tmp_path / "run", free_port()
    with launched(out, tmp_path / "output", *torchx(data, out, "1:2x1", port)) as job:
        await_training(job, out, 1)
        # The agent that holds the rendezvous must survive.
        [(agent, worker)] = [(parent(pid), pid) for pid in job.ranks.values() if not listens(parent(pid), port)]
        os.kill(agent, signal.SIGKILL)
        os.kill(worker, signal.SIGKILL)
        assert job.wait() == 1, "TorchX counts the lost node"
        assert not job.processes
    first, second = read_starts(out)
    assert (first["world_size"], second["world_size"]) == (2, 1)
    assert second["step"] > 0
    found = read_outcome(out)
    assert [record["step"] for record in found["records"] if record["kind"] == "train"] == list(range(5, STEPS + 1, 5))
    assert found["result"]


def test_preempted_launchers_end_in_time_and_go_on_on_two_machines(
    data: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    for start, words in enumerate((torchrun_with_restarts(data, out), torchx(data, out)), 1):
        # One reader per rank gives the same batches as the rank itself.
        with launched(out, tmp_path / "output", *words, "--reader.workers", "1") as job:
            await_training(job, out, start)
            job.terminate()
            assert job.wait() == (1 if words[0] == "torchx" else 143), job.output
            job.wait_for_all()
        assert newest_step(out) < STEPS
        # TorchX stops showing the output of its processes.
        said = "".join([job.output, *(log.read_text() for log in tmp_path.glob("logs/**/std???.log"))])
        assert f"told to end (SIGTERM) at step {newest_step(out)} of {STEPS}" in said
        tracebacks = said.split("Traceback (most recent call last)")[1:]
        assert all(LAUNCHERS.search(traceback) for traceback in tracebacks), "launchers alone say where they were"
        assert f'File "{ROOT / "dlrm_mtl"}/' not in said
    # Machines that run the same command are one job, also if the one that the others look for starts last.
    place: dict[str, str | Path | int] = {"HOST": "localhost", "PORT": free_port(), "NAME": "test"}
    words = command("torchrun", "python -m dlrm_mtl.torchrun --nnodes 2", **values(data, out), **place)
    other = [word.replace("join_timeout", "is_host=0,join_timeout") for word in words]
    with launched(out, tmp_path / "second", *other) as two:
        two.until(lambda: is_agent(two))
        with launched(out, tmp_path / "first", *words) as one:
            assert [one.wait(), two.wait()] == [0, 0], one.output + two.output
    assert [start["world_size"] for start in read_starts(out)] == [2, 2, 2]
    assert read_outcome(out) == undisturbed


def test_an_error_of_the_users_ends_a_job_once(tmp_path: Path) -> None:
    words = torchrun_with_restarts(tmp_path / "nowhere", tmp_path / "run")
    assert words[words.index("--max_restarts") + 1] == "3"
    words[words.index("--nproc_per_node") + 1] = "1"
    assert mentions(complaint(processes.run(*words)), "train", "nowhere/schema.json", "not found")


def test_nodes_that_do_not_meet_in_time_say_where(tmp_path: Path) -> None:
    place: dict[str, str | Path | int] = {"HOST": "localhost", "PORT": free_port(), "NAME": "test"}
    words = command("torchrun", "python -m dlrm_mtl.torchrun --nnodes 2", **values(tmp_path, tmp_path), **place)
    process = processes.run(*(word.replace("=900", "=1") for word in words))
    assert process.returncode == 1
    assert mentions(process.stderr.splitlines()[-1], "torchrun", 2, f"localhost:{place['PORT']}", "join_timeout=1")
    assert "Traceback" not in process.stderr


def test_a_preempted_process(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with launched(out, tmp_path / "output", *python(data, out)) as job:
        await_training(job, out, 1)
        job.terminate()
        assert job.wait() == 143
    step = newest_step(out)
    assert f"told to end (SIGTERM) at step {step} of " in job.output
    assert "Traceback" not in job.output
