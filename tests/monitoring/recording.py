"""Loggers, and runs that are watched by them."""

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.ending import Terminated
from dlrm_mtl.monitoring.logger import LoggedArm, Outcome
from dlrm_mtl.monitoring.mirror import mirrored
from dlrm_mtl.monitoring.monitor import monitored
from dlrm_mtl.run_config import CompareConfig
from dlrm_mtl.studies.comparison import run_comparison
from dlrm_mtl.training.trainer import Trainer
from dlrm_mtl.training.window import Window


class Recorder:
    """Writes its calls to the file ``calls`` of an arm, and fails at step 4."""

    def begin(self, arm: LoggedArm) -> None:
        note(arm, "begin", arm.step, arm.options["batch_size"])

    def log(self, arm: LoggedArm, step: int, values: Mapping[str, float]) -> None:
        if step == 4:
            raise OSError("the tracking server is away")
        note(arm, "log", step, values)

    def end(self, arm: LoggedArm, outcome: Outcome) -> None:
        note(arm, "end", outcome)


class NoEnd:
    def begin(self) -> None: ...
    def log(self) -> None: ...


class Unreachable(Recorder):
    def __init__(self) -> None:
        raise ConnectionError("no tracking server")


def note(arm: LoggedArm, *call: Any) -> None:
    with (arm.directory / "calls").open("a") as file:
        file.write(json.dumps([arm.name, arm.arm, arm.seed, *call]) + "\n")


def calls(directory: Path) -> list[list[Any]]:
    """What a recorder was told of an arm."""
    return [json.loads(line) for line in (directory / "calls").read_text().splitlines()]


def compare(ranks: Ranks, config: CompareConfig, window: int = -1, error: str = "") -> str:
    """Runs a comparison.

    Args:
        window: before which the process is told to end, or an error comes.
    """
    train_window, windows = Trainer.train_window, 0

    def counted(trainer: Trainer, steps: int) -> Window:
        nonlocal windows
        if windows == window:
            if error:
                raise ValueError(error)
            os.kill(os.getpid(), signal.SIGTERM)
        windows += 1
        return train_window(trainer, steps)

    with mock.patch.object(Trainer, "train_window", counted):
        try:
            with mirrored(config) as mirror, monitored(config, ranks, mirror) as monitor:
                run_comparison(config, ranks, monitor)
        except (Terminated, ValueError) as stop:
            return f"{type(stop).__name__}: {stop}"
    return ""
