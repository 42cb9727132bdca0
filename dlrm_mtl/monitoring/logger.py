"""Loggers: where the numbers of metrics.jsonl go, too, such as TensorBoard, MLflow or Weights & Biases."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from dlrm_mtl.balancing.methods.class_reference import import_class
from dlrm_mtl.extras import MLFLOW, check_installed
from dlrm_mtl.quoting import quote, shorten

Outcome = Literal["finished", "interrupted", "failed"]


@dataclass(frozen=True, eq=False)
class LoggedArm:
    """An arm with one seed: one run of an experiment tracker."""

    name: str
    """Its folder in the job's run directory: ``mean``, ``seed-0/mean``, ``days/0001-tuesday/seed-0/mean``."""
    arm: str
    seed: int
    directory: Path
    """That folder, which exists."""
    step: int
    """At which it begins or, after a restart, goes on."""
    options: Mapping[str, Any]
    """Of the job, by their dotted names."""


class Logger(Protocol):
    """What ``--logger MODULE:CLASS`` names.

    Rank 0 makes one, without arguments, before the data are read; an error then ends the run. Its methods are called
    by one thread in the order of events, while training goes on; an error of theirs is reported once, and counted.
    Several arms may be open at the same time.
    """

    def begin(self, arm: LoggedArm) -> None:
        """An arm begins, or goes on after a restart. Steps beyond ``arm.step`` that an earlier start logged come
        again."""

    def log(self, arm: LoggedArm, step: int, values: Mapping[str, float]) -> None:
        """The numbers of a line of metrics.jsonl by name, such as ``train/window/TASK/ne``, without those that are
        null."""

    def end(self, arm: LoggedArm, outcome: Outcome) -> None:
        """An arm ends; one that was interrupted may begin again."""


def load_logger(reference: str) -> Logger:
    """Makes the logger that ``MODULE:CLASS`` names.

    Raises:
        ValueError: there is no such class, it lacks a method of :class:`Logger`, or it cannot be made.
    """
    if reference.startswith("dlrm_mtl.monitoring.mlflow:"):
        check_installed(MLFLOW)
    kind = import_class(reference, object)
    for method in ("begin", "log", "end"):
        if not callable(getattr(kind, method, None)):
            raise ValueError(f"logger {quote(reference)}: the class has no method {method}")
    try:
        logger: Logger = kind()
    except Exception as error:
        raise ValueError(
            f"logger {quote(reference)}: making it failed: {type(error).__name__}: {shorten(str(error))}"
        ) from error
    return logger


def scalars(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of nested JSON values, by their names joined by ``/``."""
    numbers: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            numbers.update(scalars(value, f"{prefix}{key}/"))
        elif isinstance(value, int | float):
            numbers[prefix + key] = float(value)
    return numbers
