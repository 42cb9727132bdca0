"""What a run writes: metrics.jsonl, the same numbers in TensorBoard, progress."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dlrm_mtl.metrics.task_metrics import BinaryMetrics
from dlrm_mtl.monitoring.monitor import Monitor
from dlrm_mtl.run_config import TrainConfig
from dlrm_mtl.training.run_log import RunLog, progress_bar
from dlrm_mtl.training.window import Window

TASKS = ("click", "buy")
CLICK = BinaryMetrics(rows=100, positives=20, ne=0.9, log_loss=0.45, auc=0.7, calibration=1.1, tied_pairs=0.01)
NO_BUY = BinaryMetrics(rows=20, positives=0, ne=None, log_loss=0.1, auc=None, calibration=None)
BALANCING: dict[str, Any] = {
    "task_weights": {"click": 0.25, "buy": 0.75},
    "gradient_norms": {"click": 2.0, "buy": 1.0},
    "cosines": {"click/buy": -0.5},
    "nonfinite_steps": 0,
    "pareto_gap": 0.125,
}


def window(first: int, last: int, qps: float | None = 1000.0) -> Window:
    return Window(first, last, qps, [CLICK, NO_BUY], [CLICK, CLICK], BALANCING, 2, {"click": 0, "buy": 3}, 7, 100)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A finished log of two windows and an evaluation."""
    directory = tmp_path / "deep" / "mean"
    monitor = Monitor(TrainConfig(tmp_path, tmp_path))
    with RunLog(directory, TASKS, enabled=True, monitor=monitor.open_arm("mean", 0, directory, 0)) as log:
        log.window(window(0, 10))
        log.window(window(10, 11, qps=None))
        log.evaluation(11, [CLICK, CLICK])
    monitor.end("finished")
    return directory


def test_lines(directory: Path) -> None:
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert [(line["kind"], line["step"]) for line in lines] == [("train", 10), ("train", 11), ("eval", 11)]
    first, second, evaluation = lines
    assert (first["qps"], second["qps"]) == (1000, None)
    click = {
        "rows": 100,
        "positives": 20,
        "ne": 0.9,
        "log_loss": 0.45,
        "auc": 0.7,
        "calibration": 1.1,
        "tied_pairs": 0.01,
    }
    assert first["window"]["click"] == click
    assert first["window"]["buy"]["ne"] is None
    assert first["lifetime"] == {"click": click, "buy": click}
    assert {name: first[name] for name in BALANCING} == BALANCING
    assert (first["skipped_steps"], first["nonfinite_tasks"]) == (2, {"click": 0, "buy": 3})
    assert first["rows_lost"] == 7
    assert evaluation == {"step": 11, "kind": "eval", "tasks": {"click": click, "buy": click}}


def test_lines_are_there_while_the_run_goes_on(tmp_path: Path) -> None:
    with RunLog(tmp_path, TASKS, enabled=True) as log:
        log.window(window(0, 10))
        assert json.loads((tmp_path / "metrics.jsonl").read_text())["step"] == 10


def test_tensorboard_has_the_same_numbers(directory: Path) -> None:
    events = EventAccumulator(str(directory / "tensorboard"))
    events.Reload()
    tags: Any = events.Tags()["scalars"]
    found = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}
    expected: dict[str, list[tuple[int, float]]] = {
        "train/qps": [(10, 1000)],
        "train/window/click/ne": [(10, 0.9), (11, 0.9)],
        "train/lifetime/buy/auc": [(10, 0.7), (11, 0.7)],
        "train/task_weights/buy": [(10, 0.75), (11, 0.75)],
        "train/gradient_norms/click": [(10, 2), (11, 2)],
        "train/cosines/click/buy": [(10, -0.5), (11, -0.5)],
        "train/pareto_gap": [(10, 0.125), (11, 0.125)],
        "train/skipped_steps": [(10, 2), (11, 2)],
        "train/rows_lost": [(10, 7), (11, 7)],
        "train/nonfinite_tasks/buy": [(10, 3), (11, 3)],
        "eval/tasks/click/calibration": [(11, 1.1)],
    }
    for tag, points in expected.items():
        assert [step for step, _ in found[tag]] == [step for step, _ in points], tag
        assert [value for _, value in found[tag]] == pytest.approx([value for _, value in points]), tag
    assert "train/window/buy/ne" not in found  # it has none


def test_a_log_that_is_not_enabled_writes_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "rank 1"
    with RunLog(directory, TASKS, enabled=False) as log:
        log.window(window(0, 10))
        log.evaluation(10, [CLICK, CLICK])
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_is_shorter_than_its_checkpoint_says_is_reported_and_goes_on(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after a crash of the machine; and the report can read what is left."""
    log = directory / "metrics.jsonl"
    whole = log.read_bytes()
    first = whole.index(b"\n") + 1
    log.write_bytes(whole[: first + 20])
    with RunLog(directory, TASKS, True, step=11, keep_bytes=len(whole)) as resumed:
        resumed.window(window(11, 20))
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [10, 20]
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{log}: {len(whole) - first:,} of the {len(whole):,} bytes")


def test_a_log_as_long_as_its_checkpoint_says_is_cut_there_without_a_word(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = directory / "metrics.jsonl"
    keep = log.read_bytes().index(b"\n") + 1
    with RunLog(directory, TASKS, True, step=10, keep_bytes=keep) as resumed:
        resumed.window(window(10, 20))
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [10, 20]
    assert capsys.readouterr().err == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def progress(monkeypatch: pytest.MonkeyPatch, stderr: io.StringIO, enabled: bool = True) -> str:
    """What a bar of 20 steps prints."""
    monkeypatch.setattr(sys, "stderr", stderr)
    with progress_bar(20, "seed 3", enabled) as bar:
        bar.mininterval = 0  # not only now and then
        for _ in range(4):
            bar.update(5)
    return stderr.getvalue()


def test_progress_is_whole_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Launchers put a prefix before every line, and a carriage return would jump over it."""
    text = progress(monkeypatch, io.StringIO())
    assert text.endswith("\n")
    assert "\r" not in text
    lines = text.splitlines()
    states = list(dict.fromkeys(line.split(" [")[0] for line in lines))  # the end may be said twice
    assert states == [f"seed 3: {n}/20 steps" for n in (0, 5, 10, 15, 20)]


def test_progress_is_a_live_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = progress(monkeypatch, Terminal())
    assert text.count("\r") >= 5
    assert "seed 3" in text
    assert "20/20" in text


@pytest.mark.parametrize("stderr", [io.StringIO(), Terminal()])
def test_other_ranks_show_nothing(monkeypatch: pytest.MonkeyPatch, stderr: io.StringIO) -> None:
    assert progress(monkeypatch, stderr, enabled=False) == ""


def test_a_bar_says_nothing_after_the_error_that_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread may have said why before."""
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    bar = progress_bar(20, "seed 3", enabled=True)
    bar.__enter__().update(5)
    print("the reason", file=stderr)
    error = ValueError("the reason")
    assert not bar.__exit__(ValueError, error, None)
    assert stderr.getvalue().endswith("the reason\n")
