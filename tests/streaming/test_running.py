"""Days in order: what a run leaves behind, and how it goes on after a kill, with further days, without a bad one."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from dlrm_mtl.config import CheckpointConfig, ModelConfig
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.ending import Terminated
from dlrm_mtl.inference.stored_model import open_stored_model
from dlrm_mtl.location import Location
from dlrm_mtl.run_config import StreamConfig
from dlrm_mtl.streaming.running import run_stream
from dlrm_mtl.training.trainer import Trainer
from dlrm_mtl.training.window import Window
from tests.datasets import TASKS
from tests.entry_points.test_resume import logs, without_speed
from tests.json_edits import edit, put
from tests.messages import mentions, naming
from tests.ranks import RankPool
from tests.streaming.small_days import make_day, make_days

ARMS = ("mean", "multibalance_recommended")
MODEL = ModelConfig(embedding_dim=4, bottom_mlp=(8,), head_mlp=(8,))
STEPS = 4
"""Of each day."""


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return make_days(tmp_path_factory.mktemp("days"), 4)


def config(data: tuple[Path, ...], out: Path, **changes: Any) -> StreamConfig:
    often = CheckpointConfig(every_steps=2)
    return StreamConfig(data, out, 40, log_every=1, model=MODEL, arms=ARMS, seeds=2, checkpoint=often, **changes)


def stream(ranks: Ranks, config: StreamConfig, window: int = -1, number: int = signal.SIGTERM) -> str:
    """Runs a stream.

    Args:
        window: before which the process gets a signal.
    """
    train_window, windows = Trainer.train_window, 0

    def counted(trainer: Trainer, steps: int) -> Window:
        nonlocal windows
        if windows == window:
            os.kill(os.getpid(), number)
        windows += 1
        return train_window(trainer, steps)

    with mock.patch.object(Trainer, "train_window", counted):
        try:
            run_stream(config, ranks)
        except (Terminated, ValueError) as error:
            return f"{type(error).__name__}: {error}"
    return ""


@pytest.fixture(scope="module")
def finished(days: tuple[Path, ...], tmp_path_factory: pytest.TempPathFactory, rank_pool: RankPool) -> Path:
    """A run over three days on one rank."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    assert rank_pool.run(1, stream, config(days[:3], out)) == [""]
    return out


def results(out: Path, *names: str) -> dict[str, Any]:
    """By file."""
    return {
        str(path.relative_to(out)): without_speed(json.loads(path.read_text()))
        for name in names
        for path in sorted(out.glob(f"days/*/{name}"))
    }


def over(out: Path) -> dict[str, Any]:
    """Days that are over, by name."""
    return {day["name"]: day for day in json.loads((out / "stream.json").read_text())["days"]}


def models(out: Path) -> list[str]:
    return sorted(str(path.relative_to(out / "days")) for path in out.glob("days/*/seed-*/checkpoints/step-*"))


def weights(out: Path, day: str) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(out.glob(f"days/{day}/seed-*/checkpoints/*/*.distcp"))}


def test_every_day_is_a_comparison_before_its_training(finished: Path) -> None:
    days = over(finished)
    assert list(days) == ["0000-a", "0001-b", "0002-c"]
    assert [day["skipped"] for day in days.values()] == [None] * 3
    assert [len(day["evaluated"]) for day in days.values()] == [0, 3, 3]
    comparisons = results(finished, "comparison.json")
    assert list(comparisons) == ["days/0001-b/comparison.json", "days/0002-c/comparison.json"]
    for comparison in comparisons.values():
        assert list(comparison["arms"]) == list(ARMS)
        assert [part["rows"] for part in comparison["evaluation"].values()][:2] == [150, 150]
        assert all(task["ne"] > 0 for arm in comparison["arms"].values() for task in arm["tasks"].values())
    assert models(finished) == [f"0002-c/seed-{seed}/checkpoints/step-{3 * STEPS:08}" for seed in range(2)]
    for place in (finished, finished / "days" / "0002-c"):
        with pytest.raises(ValueError, match=naming("2 seeds", str(finished / "days/0002-c/seed-0"))):
            open_stored_model(place)
    assert open_stored_model(finished / "days/0002-c/seed-0").step == 3 * STEPS


def test_a_run_that_was_told_to_end_goes_on_exactly(
    days: tuple[Path, ...], finished: Path, tmp_path: Path, rank_pool: RankPool
) -> None:
    run = config(days[:3], tmp_path / "run")
    day = 2 * 2 * STEPS  # windows of two seeds and arms
    for window in (day // 2 + 3, day):
        [ending] = rank_pool.run(1, stream, run, window)
        assert ending.startswith("Terminated")
    assert rank_pool.run(1, stream, run) == [""]
    files = ("comparison.json", "seed-*.json")
    assert results(run.out, *files) == results(finished, *files)
    assert {path.name: path.read_bytes() for path in run.out.rglob("seed-*.npz")} == {
        path.name: path.read_bytes() for path in finished.rglob("seed-*.npz")
    }
    assert list(weights(run.out, "0002-c").values()) == list(weights(finished, "0002-c").values())
    assert logs(run.out) == logs(finished)


def test_a_killed_run_goes_on_on_other_ranks(
    days: tuple[Path, ...], finished: Path, tmp_path: Path, rank_pool: RankPool
) -> None:
    run = config(days[:2], tmp_path / "run")
    with pytest.raises(EOFError):
        rank_pool.run(1, stream, run, 2 * 2 * STEPS + 6, signal.SIGKILL)
    assert list(over(run.out)) == ["0000-a"]
    assert rank_pool.run(2, stream, run) == ["", ""]
    found, expected = results(run.out, "seed-*.json"), results(finished, "seed-*.json")
    assert len(found) == 4
    for file in found:
        seed = expected[file]
        for arm in ARMS:
            for task, theirs in seed["arms"][arm]["tasks"].items():
                mine = found[file]["arms"][arm]["tasks"][task]
                assert (mine["rows"], mine["positives"]) == (theirs["rows"], theirs["positives"])
                assert mine["ne"] == (theirs["ne"] and pytest.approx(theirs["ne"], rel=1e-3))


def test_days_are_appended_to_a_finished_run(
    days: tuple[Path, ...], finished: Path, tmp_path: Path, rank_pool: RankPool
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    before = {path: path.read_bytes() for path in out.glob("days/*/*.json")}
    moved = tuple(Path(shutil.copytree(day, tmp_path / "elsewhere" / day.name)) for day in days[:3])
    more = config((*moved, days[3]), out, keep_models=True, task_ends=("buy=2024-01-03",))
    assert rank_pool.run(1, stream, more) == [""]
    assert {path: path.read_bytes() for path in before} == before
    last = over(out)["0003-d"]
    assert last["tasks"] == last["evaluated"] == ["click", "like"]
    assert len(models(out)) == 4
    assert list(results(out, "comparison.json")["days/0003-d/comparison.json"]["tasks"]) == ["click", "like"]

    def refused(data: tuple[Location, ...], *named: str, **changes: Any) -> None:
        [message] = rank_pool.run(1, stream, replace(more, data=data, **changes))
        assert message.startswith("ValueError")
        assert mentions(message, *named)

    refused(days[:3], "0003-d", "missing")
    other = Path(shutil.copytree(days[3], tmp_path / "other"))
    refused((*days[:3], other), "0003-d", "0003-other")
    refused(days, "0003-d", "click, like", "click, like, buy", task_ends=())
    refused(days, "config.json", "seeds=2", "3", seeds=3)
    edit(moved[1] / "schema.json", put("splits", "stream", 0, "rows", 149))
    refused(more.data, str(moved[1]), "149", "150")
    assert {path: path.read_bytes() for path in before} == before


def test_bad_days_are_skipped(days: tuple[Path, ...], tmp_path: Path, rank_pool: RankPool) -> None:
    """A task that begins on a skipped day is evaluated from the second day on that is trained."""
    bad, diverging = (tmp_path / name for name in ("bad", "diverging"))
    make_day(diverging, 1, price=3e38)
    shutil.copytree(days[2], bad)
    shard = next(bad.glob("stream/*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-100])
    run = config(
        (days[0], diverging, bad, days[3], make_day(tmp_path / "e", 4)),
        tmp_path / "run",
        task_begins=("like=2024-01-02",),
        task_weights=("like=2", "buy=1", "click=1"),
        max_nonfinite_steps=2,
    )
    run = replace(run, seeds=1)
    [message] = rank_pool.run(1, stream, run)
    assert mentions(message, "DivergedError", "max_nonfinite_steps")
    assert list(over(run.out)) == ["0000-a"]
    run = replace(run, on_bad_day="skip")
    assert rank_pool.run(1, stream, run) == [""]
    first, *skipped, fourth, fifth = over(run.out).values()
    assert mentions(skipped[0]["skipped"], "max_nonfinite_steps")
    assert mentions(skipped[1]["skipped"], str(shard))
    assert [day["skipped"] for day in (first, fourth, fifth)] == [None] * 3
    assert [day["evaluated"] for day in (fourth, fifth)] == [["click", "buy"], ["click", "like", "buy"]]
    comparison = results(run.out, "comparison.json")["days/0003-d/comparison.json"]
    assert comparison["task_weights"] == {"click": 0.5, "buy": 0.5}
    assert models(run.out) == [f"0004-e/seed-0/checkpoints/step-{3 * STEPS:08}"]
    assert open_stored_model(run.out).path == run.out / "days" / models(run.out)[0]
    shutil.copyfile(next(days[2].glob("stream/*.parquet")), shard)
    before = (run.out / "stream.json").read_text()
    assert rank_pool.run(1, stream, run) == [""]
    assert (run.out / "stream.json").read_text() == before


def test_nothing_is_written_before_the_checks(days: tuple[Path, ...], tmp_path: Path, rank_pool: RankPool) -> None:
    swapped = make_day(tmp_path / "swapped", 1, TASKS[::-1])
    for wrong, named in (
        (config((days[1], days[0]), tmp_path / "run"), (str(days[0]), "2024-01-01", "2024-01-02")),
        (config(days, tmp_path / "run", segments=("hour",)), ("'hour'",)),
        (replace(config(days, tmp_path / "run"), arms=("mean", "static:weights=1/2")), (str(days[0]), "weights")),
        (
            replace(config((days[0], swapped), tmp_path / "run"), arms=("mean", "static:weights=0.5/0.3/0.2")),
            (str(swapped), "weights=0.5", "buy, like, click", str(days[0]), "click, like, buy"),
        ),
    ):
        [message] = rank_pool.run(1, stream, wrong)
        assert message.startswith("ValueError")
        assert mentions(message, *named)
        assert not (tmp_path / "run").exists()


def test_a_run_of_bad_days_alone_is_an_error(days: tuple[Path, ...], tmp_path: Path, rank_pool: RankPool) -> None:
    day = Path(shutil.copytree(days[0], tmp_path / "a"))
    next(day.glob("stream/*.parquet")).unlink()
    [message] = rank_pool.run(1, stream, config((day,), tmp_path / "run", on_bad_day="skip"))
    assert mentions(message, "ValueError", str(tmp_path / "run"), "part-00000.parquet")
