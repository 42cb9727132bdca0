"""comparison.json of this version and of earlier ones, checked by type and range when it is read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dlrm_mtl.config import require
from dlrm_mtl.files import read_json
from dlrm_mtl.quoting import quote
from dlrm_mtl.records import MayHoldMore
from dlrm_mtl.reporting.runs.older import complete
from dlrm_mtl.reporting.runs.run_records import Bounds, Decile, Gain, LabelDecile, MayHaveInterval, check_record
from dlrm_mtl.statistics.families import Verdict
from dlrm_mtl.training_length import TrainingLength


@dataclass(frozen=True, kw_only=True)
class OtherGain(Gain):
    """A gain in a metric other than NE and NMSE, or in a segment."""

    covers: str | None
    over_seeds: Bounds | None
    over_rows: Bounds | None
    detectable: float | None


@dataclass(frozen=True, kw_only=True)
class JudgedGain(OtherGain):
    """A gain in NE or NMSE, with its verdict."""

    p: float | None
    p_holm: float | None
    verdict: Verdict | None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("p", self.p), ("p_holm", self.p_holm)):
            require(name, value, value is None or 0 <= value <= 1, "a probability")


@dataclass(frozen=True, kw_only=True)
class SeedCalibration(MayHaveInterval):
    """Of one seed."""

    seed: int
    calibration: float | None


@dataclass(frozen=True)
class SeedDeciles(MayHoldMore):
    """Of one seed."""

    seed: int
    deciles: tuple[Decile, ...]


@dataclass(frozen=True, kw_only=True)
class SeedMeanError(MayHaveInterval):
    """Of one seed."""

    seed: int
    mean_error: float | None


@dataclass(frozen=True)
class SeedLabelDeciles(MayHoldMore):
    """Of one seed."""

    seed: int
    deciles: tuple[LabelDecile, ...]


@dataclass(frozen=True, kw_only=True)
class Change(MayHaveInterval):
    """A change of speed (%)."""

    median: float


@dataclass(frozen=True)
class Speed(MayHoldMore):
    """Samples per second over windows."""

    median: float
    p10: float
    p90: float
    windows: int
    change_percent: Change


@dataclass(frozen=True, kw_only=True)
class OlderTask(MayHoldMore):
    """An arm's metrics on a task; None if a prediction was not finite."""

    ne: float | None
    auc: float | None
    calibration: float | None
    ne_gain_percent: Gain | None
    exploded_seeds: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ComparedProduct(OlderTask):
    """An arm's metrics on a product of tasks, which has no verdict."""

    ne_gain_percent: OtherGain | None
    relative_ne_gain_percent: OtherGain | None
    auc_gain_percent: OtherGain | None
    auprc_gain_percent: OtherGain | None
    gauc_gain_percent: OtherGain | None
    uauc_gain_percent: OtherGain | None
    recalibrated_ne_gain_percent: OtherGain | None
    auprc: float | None
    gauc: float | None
    uauc: float | None
    recalibrated_ne: float | None
    tied_pairs: float | None
    calibration_by_seed: tuple[SeedCalibration, ...]
    deciles_by_seed: tuple[SeedDeciles, ...]
    exploded_seeds: tuple[int, ...] = field()


@dataclass(frozen=True, kw_only=True)
class ComparedTask(ComparedProduct):
    """An arm's metrics on a task, as this version has them."""

    ne_gain_percent: JudgedGain | None


@dataclass(frozen=True, kw_only=True)
class ComparedRegression(MayHoldMore):
    """An arm's metrics on a regression."""

    kind: Literal["regression"]
    nmse: float | None
    mae: float | None
    xauc: float | None
    mean_error: float | None
    nmse_gain_percent: JudgedGain | None
    relative_nmse_gain_percent: OtherGain | None
    xauc_gain_percent: OtherGain | None
    mean_error_by_seed: tuple[SeedMeanError, ...]
    deciles_by_seed: tuple[SeedLabelDeciles, ...]
    exploded_seeds: tuple[int, ...]


@dataclass(frozen=True)
class SegmentTask(MayHoldMore):
    """A binary task's gain on the rows of one segment value."""

    ne_gain_percent: OtherGain | None


@dataclass(frozen=True)
class SegmentRegression(MayHoldMore):
    """The same of a regression."""

    kind: Literal["regression"]
    nmse_gain_percent: OtherGain | None


@dataclass(frozen=True)
class SegmentValue(MayHoldMore):
    """Gains on the rows of one segment value."""

    rows: int
    average_ne_gain_percent: OtherGain | None
    tasks: Mapping[str, SegmentTask | SegmentRegression]


@dataclass(frozen=True, kw_only=True)
class OlderArm(MayHoldMore):
    """An arm of a comparison."""

    seeds: tuple[int, ...]
    skipped_steps: int
    rows_lost: int
    qps: Speed | None
    average_ne_gain_percent: Gain | None
    tasks: Mapping[str, OlderTask | ComparedRegression]
    end_to_end_qps: Speed | None = None

    def __post_init__(self) -> None:
        require("seeds", self.seeds, len(self.seeds) > 0, "at least one")


@dataclass(frozen=True, kw_only=True)
class ComparedArm(OlderArm):
    """The same, as this version has it."""

    average_ne_gain_percent: JudgedGain | None
    loses_nothing: bool | None
    tasks: Mapping[str, ComparedTask | ComparedRegression]
    segments: Mapping[str, Mapping[str, SegmentValue]]
    products: Mapping[str, ComparedProduct] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, values in self.segments.items():
            for value in values.values():
                same = value.tasks.keys() == self.tasks.keys()
                require(f"tasks of segment {quote(name)}", list(value.tasks), same, f"{quote(list(self.tasks))}")


@dataclass(frozen=True)
class Families(MayHoldMore):
    """The procedure of the verdicts, and the sizes of the families."""

    procedure: str
    level: float
    margin: float
    averages: int
    arms_and_tasks: int
    no_task_loses: int


@dataclass(frozen=True)
class Evaluated(MayHoldMore):
    """Numbers of evaluation rows, positives and users of a task."""

    rows: int | None
    positives: int | None
    users: int | None


@dataclass(frozen=True)
class ChanceRange(MayHoldMore):
    """How many intervals exclude 0, and how many would by chance."""

    exclude_zero: int
    intervals: int
    low: int
    high: int
    at_least_one: float


@dataclass(frozen=True, kw_only=True)
class OlderComparison(MayHoldMore):
    """comparison.json of an earlier version."""

    control: str
    tasks: tuple[str, ...]
    bayes_ne: Mapping[str, float]
    intervals: str
    arms: Mapping[str, OlderArm]
    data_set: str = ""
    training: Mapping[str, Any] | None = None
    task_weights: Mapping[str, float] | None = None
    planned_seeds: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        require("tasks", self.tasks, len(self.tasks) > 0, "at least one")
        require("arms", list(self.arms), self.control in self.arms, f"the control {quote(self.control)} among them")
        for arm in self.arms.values():
            require("tasks of an arm", list(arm.tasks), arm.tasks.keys() == set(self.tasks), f"{quote(self.tasks)}")
        if self.training is not None:
            TrainingLength.from_json(self.training)
        if self.task_weights is not None:
            same = self.task_weights.keys() == set(self.tasks)
            require("task_weights", list(self.task_weights), same, f"{quote(self.tasks)}")


@dataclass(frozen=True)
class AddedSeeds(MayHoldMore):
    """Seeds of an arm that were not planned when its first job began."""

    seeds: tuple[int, ...]
    looks: tuple[int, ...]
    """Numbers of seeds at which the arm could be looked at."""
    error_rate: float
    """How often its interval excludes 0 at one of these looks if there is no difference."""


@dataclass(frozen=True, kw_only=True)
class Comparison(OlderComparison):
    """comparison.json as this version has it."""

    arms: Mapping[str, ComparedArm]
    task_weights: Mapping[str, float] = field()
    clusters: str
    evaluation: Mapping[str, Evaluated]
    products: Mapping[str, Evaluated] = field(default_factory=dict)
    families: Families
    chance_range: ChanceRange
    planned_seeds: tuple[int, ...] = field()
    added_seeds: Mapping[str, AddedSeeds]
    reweighed: bool


def read_comparison(path: Path) -> Mapping[str, Any]:
    """Reads a comparison.json; one of an earlier version is completed.

    Raises:
        ValueError: the file is missing, not valid JSON, or not a comparison; the message names it.
    """
    value = read_json(path)
    is_older = isinstance(value, dict) and "families" not in value
    check_record(value, OlderComparison if is_older else Comparison, path)
    return complete(value)
