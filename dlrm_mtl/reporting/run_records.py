"""The files of a run directory that the report reads, checked by type and range when they are read. What else they say,
as files of a later version may, is left as it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dlrm_mtl.config import require
from dlrm_mtl.files import read_json
from dlrm_mtl.quoting import quote
from dlrm_mtl.records import MayHoldMore, build
from dlrm_mtl.training_length import TrainingLength

T = TypeVar("T")


@dataclass(frozen=True)
class Gain(MayHoldMore):
    """An NE gain (%), with its interval where there is one."""

    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ComparedTask(MayHoldMore):
    """What an arm reached on a task; None where a prediction was not finite."""

    ne: float | None
    auc: float | None
    calibration: float | None
    ne_gain_percent: Gain | None
    exploded_seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Change(MayHoldMore):
    """A change of speed (%), with its interval."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Speed(MayHoldMore):
    """Samples per second over windows."""

    median: float
    p10: float
    p90: float
    windows: int
    change_percent: Change


@dataclass(frozen=True)
class ComparedArm(MayHoldMore):
    """An arm of a comparison."""

    seeds: tuple[int, ...]
    skipped_steps: int
    rows_lost: int
    qps: Speed | None
    average_ne_gain_percent: Gain | None
    tasks: Mapping[str, ComparedTask]
    end_to_end_qps: Speed | None = None

    def __post_init__(self) -> None:
        require("seeds", self.seeds, len(self.seeds) > 0, "at least one")


@dataclass(frozen=True)
class Comparison(MayHoldMore):
    """comparison.json."""

    control: str
    tasks: tuple[str, ...]
    bayes_ne: Mapping[str, float]
    intervals: str
    arms: Mapping[str, ComparedArm]
    data_set: str = ""
    training: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        require("tasks", self.tasks, len(self.tasks) > 0, "at least one")
        require("arms", list(self.arms), self.control in self.arms, f"the control {quote(self.control)} among them")
        for arm in self.arms.values():
            require("tasks of an arm", list(arm.tasks), arm.tasks.keys() == set(self.tasks), f"{quote(self.tasks)}")
        if self.training is not None:
            TrainingLength.from_json(self.training)


@dataclass(frozen=True)
class TrainedArm(MayHoldMore):
    """An arm that was trained from one seed."""

    qps: tuple[float, ...]
    skipped_steps: int
    rows_lost: int
    average_ne_gain_percent: Gain | None
    tasks: Mapping[str, ComparedTask]
    end_to_end_qps: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for values in (self.qps, self.end_to_end_qps):
            require("qps", values, all(value > 0 for value in values), "positive numbers")


@dataclass(frozen=True)
class Seed(MayHoldMore):
    """seed-S.json."""

    seed: int
    arms: Mapping[str, TrainedArm]
    training: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        require("arms", list(self.arms), len(self.arms) > 0, "at least one")


@dataclass(frozen=True)
class RunConfig(MayHoldMore):
    """config.json, as far as the report needs it."""

    data: str


@dataclass(frozen=True)
class RunEnvironment(MayHoldMore):
    """environment.json."""

    time: str
    command: tuple[str, ...]
    python: str
    versions: Mapping[str, str]
    platform: str
    processor: str
    cpus: int | None
    world_size: int
    device: str

    def __post_init__(self) -> None:
        require("command", self.command, len(self.command) > 0, "a program")


@dataclass(frozen=True)
class RecordedShard(MayHoldMore):
    """A shard of data.json."""

    split: str
    file: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class RecordedData(MayHoldMore):
    """data.json."""

    shards: tuple[RecordedShard, ...]


@dataclass(frozen=True)
class LoggedWindow(MayHoldMore):
    """A training line of metrics.jsonl."""

    step: int
    qps: float | None = None
    task_weights: Mapping[str, float | None] | None = None
    gradient_norms: Mapping[str, float | None] | None = None
    weighted_gradient_norms: Mapping[str, float | None] | None = None
    cosines: Mapping[str, float | None] | None = None
    pareto_gap: float | None = None
    skipped_steps: int | None = None


def read_record(path: Path, kind: type[T]) -> dict[str, Any]:
    """A file of a run directory.

    Raises:
        ValueError: it is not there, no valid JSON, or not of the kind; the message names it.
    """
    value: dict[str, Any] = read_json(path)
    try:
        build(kind, value, "")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return value
