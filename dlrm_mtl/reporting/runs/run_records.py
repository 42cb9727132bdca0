"""Files of a run directory, checked by type and range when the report reads them. Unknown fields are ignored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from dlrm_mtl.config import require
from dlrm_mtl.files import read_json
from dlrm_mtl.metrics.estimates_file import read_estimates
from dlrm_mtl.metrics.evaluation import EvaluationEstimates
from dlrm_mtl.quoting import quote
from dlrm_mtl.records import MayHoldMore, build

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class MayHaveInterval(MayHoldMore):
    """A record with an interval, or without one."""

    low: float | None
    high: float | None

    def __post_init__(self) -> None:
        ends = self.low, self.high
        if self.low is None or self.high is None:
            require("low and high", ends, self.low is self.high, "both or none")
        else:
            require("low and high", ends, self.low <= self.high, "low no more than high")


@dataclass(frozen=True, kw_only=True)
class Gain(MayHaveInterval):
    """A gain (%)."""

    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Bounds(MayHaveInterval):
    """An interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Decile(MayHoldMore):
    """A tenth of a task's rows, by prediction."""

    rows: int
    predicted: float
    rate: float

    def __post_init__(self) -> None:
        require("rows", self.rows, self.rows >= 0, "none or more")
        for name, value in (("predicted", self.predicted), ("rate", self.rate)):
            require(name, value, 0 <= value <= 1, "a probability")


@dataclass(frozen=True)
class TrainedTask(MayHoldMore):
    """An arm's metrics on a binary task; None if a prediction was not finite or an earlier version did not measure
    it."""

    ne: float | None
    auc: float | None
    calibration: float | None
    ne_gain_percent: Gain | None
    calibration_interval: Bounds | None = None
    deciles: tuple[Decile, ...] = ()
    auprc: float | None = None
    gauc: float | None = None
    uauc: float | None = None
    recalibrated_ne: float | None = None
    tied_pairs: float | None = None
    rows: int | None = None
    positives: int | None = None
    users: int | None = None
    log_loss: float | None = None
    weight: float | None = None
    positive_weight: float | None = None


@dataclass(frozen=True)
class LabelDecile(MayHoldMore):
    """A tenth of a regression's rows, by prediction."""

    rows: int
    predicted: float
    label: float


@dataclass(frozen=True)
class TrainedRegression(MayHoldMore):
    """An arm's metrics on a regression; None if a prediction was not finite."""

    kind: Literal["regression"]
    nmse: float | None
    mae: float | None
    xauc: float | None
    mean_error: float | None
    nmse_gain_percent: Gain | None
    mean_error_interval: Bounds | None = None
    deciles: tuple[LabelDecile, ...] = ()
    rows: int | None = None
    weight: float | None = None
    squared_error: float | None = None
    label_mean: float | None = None
    label_variance: float | None = None


@dataclass(frozen=True)
class TrainedArm(MayHoldMore):
    """An arm trained with one seed."""

    qps: tuple[float, ...]
    skipped_steps: int
    rows_lost: int
    average_ne_gain_percent: Gain | None
    tasks: Mapping[str, TrainedTask | TrainedRegression]
    end_to_end_qps: tuple[float, ...] = ()
    products: Mapping[str, TrainedTask] = field(default_factory=dict)

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
    """The part of config.json that the report needs."""

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
        ValueError: the file is missing, not valid JSON, or of another kind; the message names it.
    """
    value: dict[str, Any] = read_json(path)
    check_record(value, kind, path)
    return value


def check_record(value: Any, kind: type, path: Path) -> None:
    """Raises a ValueError that names the file unless its content is of this kind."""
    try:
        build(kind, value, "")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_seed_estimates(
    path: Path, arms: Mapping[str, Mapping[str, Any]], tasks: Sequence[str]
) -> dict[str, EvaluationEstimates] | None:
    """Reads a seed-S.npz; None if there is none, as in runs of earlier versions.

    Args:
        arms: their records in seed-S.json.

    Raises:
        ValueError: the file does not have these arms, tasks and products; the message names it.
    """
    if not path.is_file():
        return None
    estimates = read_estimates(path)
    if estimates.keys() != set(arms):
        raise ValueError(f"{path}: arms {quote(list(estimates))}, expected {quote(list(arms))}")
    for name, arm in estimates.items():
        if "ne" not in arm.estimates:
            raise ValueError(f"{path}: arm {quote(name)} has no NE")
        if len(arm.estimates["ne"].values) != len(tasks):
            count = len(arm.estimates["ne"].values)
            raise ValueError(f"{path}: arm {quote(name)} has {count} tasks, expected {len(tasks)}")
        products = arm.product_estimates
        expected = len(arms[name].get("products", {}))
        if (count := len(products["ne"].values) if "ne" in products else 0) != expected:
            raise ValueError(f"{path}: arm {quote(name)} has NE of {count} products, expected {expected}")
    shapes = {name: evaluation_shape(arm) for name, arm in estimates.items()}
    first = next(iter(shapes.values()))
    for name, of_arm in shapes.items():
        if of_arm != first:
            raise ValueError(f"{path}: arm {quote(name)} was evaluated in other buckets or segments than the first")
    return estimates


def evaluation_shape(arm: EvaluationEstimates) -> tuple[Any, ...]:
    """Buckets, and rows by segment and value; equal for arms evaluated on the same rows."""
    segments = {
        (name, value): (segment.rows, segment.ne.influence.shape)
        for name, values in arm.segments.items()
        for value, segment in values.items()
    }
    buckets = {len(estimates.influence) for estimates in (*arm.estimates.values(), *arm.product_estimates.values())}
    return buckets, segments
