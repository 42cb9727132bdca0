"""What a run says of the time that a preemption takes."""

from pathlib import Path

import pytest

from dlrm_mtl.ending import SAVE_TIME
from dlrm_mtl.monitoring.monitor import Monitor
from dlrm_mtl.run_config import CompareConfig
from tests.messages import mentions


@pytest.fixture
def monitor(tmp_path: Path) -> Monitor:
    return Monitor(CompareConfig(tmp_path, tmp_path))


def train(monitor: Monitor, checkpoint_s: float) -> None:
    monitor.begin(0, 0, 4)
    for step in (2, 4):
        monitor.end_round(step, rows=10)
        monitor.checkpoint(step, checkpoint_s)


@pytest.mark.parametrize(("available", "warns"), [("120", False), ("30", True)])
def test_a_run_says_once_what_a_preemption_takes(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], available: str, warns: bool
) -> None:
    monkeypatch.setenv(SAVE_TIME, available)
    train(monitor, checkpoint_s=40.0)
    [line] = capsys.readouterr().err.splitlines()
    assert mentions(line, "41 s", "40.0 s of saving", f"{available} s")
    assert mentions(line, "WARNING", "--save_time", 82) == warns


def test_without_a_launcher_nobody_knows_how_long_it_waits(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(SAVE_TIME, raising=False)
    train(monitor, checkpoint_s=40.0)
    assert capsys.readouterr().err == ""
