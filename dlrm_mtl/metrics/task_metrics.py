"""Metrics of one task, as in metrics.jsonl, seed-S.json and result.json."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

MANY_TIES = 0.01
"""Share of tied pairs above which an AUC says more about the ties than about the order."""


@dataclass(frozen=True)
class BinaryMetrics:
    """Metrics of a binary task over its defined rows, by their weights. None if undefined: no row, one class only, or
    predictions that are not finite."""

    rows: int
    positives: int
    ne: float | None
    """Normalized entropy: mean log loss / entropy of the base rate (He et al., ADKDD 2014)."""
    log_loss: float | None
    """Mean log loss, in nats."""
    auc: float | None
    calibration: float | None
    """Mean prediction / base rate."""
    tied_pairs: float | None = None
    """Share of pairs of a positive and a negative with equal predictions; each counts half in the AUC."""
    weight: float | None = None
    """Sum of the rows' weights; None if each is 1."""
    positive_weight: float | None = None
    """The same of the positives."""

    @property
    def normalized_loss(self) -> float | None:
        return self.ne


@dataclass(frozen=True)
class RegressionMetrics:
    """Metrics of a regression task over its defined rows, by their weights. None if undefined: no row, equal labels
    only, or predictions that are not finite."""

    rows: int
    weight: float
    """Sum of the rows' weights."""
    nmse: float | None
    """Squared error / that of the mean label of the same rows."""
    squared_error: float | None
    """Mean squared error, in the label's unit squared."""
    mae: float | None
    """Mean absolute error, in the label's unit."""
    mean_error: float | None
    """Mean prediction - mean label, in the label's unit."""
    label_mean: float | None
    label_variance: float | None
    kind: Literal["regression"] = "regression"

    @property
    def normalized_loss(self) -> float | None:
        return self.nmse


TaskMetrics = BinaryMetrics | RegressionMetrics
"""``normalized_loss``: NE of a binary task, NMSE of a regression."""


def as_record(metrics: TaskMetrics) -> dict[str, Any]:
    """As JSON values, without the weights of a binary task's rows if each is 1."""
    return {name: value for name, value in asdict(metrics).items() if value is not None or "weight" not in name}


@dataclass(frozen=True)
class Bounds:
    """The ends of a 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Decile:
    """A tenth of a binary task's rows, in the order of their predictions; means by weight."""

    rows: int
    predicted: float
    """Mean prediction."""
    rate: float
    """Positives / rows."""


@dataclass(frozen=True)
class LabelDecile:
    """A tenth of a regression task's rows, in the order of their predictions; means by weight."""

    rows: int
    predicted: float
    """Mean prediction."""
    label: float
    """Mean label."""


@dataclass(frozen=True)
class BinaryEvaluation(BinaryMetrics):
    """Evaluation metrics of a binary task. Those that are not sums over rows use the kept predictions, see
    :class:`dlrm_mtl.metrics.predictions.kept.KeptPredictions`."""

    calibration_interval: Bounds | None = None
    """Interval for other rows."""
    deciles: tuple[Decile, ...] = ()
    """From the lowest predictions to the highest."""
    auprc: float | None = None
    """Average precision."""
    recalibrated_ne: float | None = None
    """NE on one half of the clusters, with a bias added to all logits that was fitted on the other half."""
    recalibration_bias: float | None = None
    """That bias, in log-odds."""
    gauc: float | None = None
    """AUC within a cluster, averaged over the clusters that have both classes, weighted by their rows."""
    uauc: float | None = None
    """The same, each cluster counted once."""
    users: int | None = None
    """Number of clusters that have both classes; None if rows have no cluster."""
    users_share: float = 1.0
    """Share of the clusters whose predictions are kept; of the rows, if they have no cluster."""
    rows_share: float = 1.0
    """Share of the task's rows whose predictions are kept."""


@dataclass(frozen=True)
class RegressionEvaluation(RegressionMetrics):
    """Evaluation metrics of a regression task; as :class:`BinaryEvaluation`."""

    mean_error_interval: Bounds | None = None
    """Interval for other rows."""
    deciles: tuple[LabelDecile, ...] = ()
    """From the lowest predictions to the highest."""
    xauc: float | None = None
    """Share of the pairs of rows with different labels that are ordered rightly (Zhan et al., KDD 2022); equal
    predictions count half."""
    users_share: float = 1.0
    """As of a binary task."""
    rows_share: float = 1.0
    """As of a binary task."""


TaskEvaluation = BinaryEvaluation | RegressionEvaluation
