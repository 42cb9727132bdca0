"""Metrics of one task, as in metrics.jsonl, seed-S.json and result.json."""

from dataclasses import dataclass

MANY_TIES = 0.01
"""Share of tied pairs above which an AUC says more about the ties than about the order."""


@dataclass(frozen=True)
class TaskMetrics:
    """Metrics of one task over its defined rows. None if undefined: no row, one class only, or predictions that are not
    finite."""

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


@dataclass(frozen=True)
class Bounds:
    """The ends of a 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Decile:
    """A tenth of a task's rows, in the order of their predictions."""

    rows: int
    predicted: float
    """Mean prediction."""
    rate: float
    """Positives / rows."""


@dataclass(frozen=True)
class TaskEvaluation(TaskMetrics):
    """Evaluation metrics of one task. Those that are not sums over rows use the kept predictions, see
    :class:`dlrm_mtl.metrics.kept.KeptPredictions`."""

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
