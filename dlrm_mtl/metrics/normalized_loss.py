"""A task's loss / that of the best constant prediction for the same rows: NE, or NMSE of a regression."""

from collections.abc import Sequence

from dlrm_mtl.metrics.bucket_sums import log_calibration_estimates, normalized_entropy_estimates
from dlrm_mtl.metrics.estimates import Estimates, FloatArray, join
from dlrm_mtl.metrics.regression_sums import (
    mean_absolute_error_estimates,
    mean_error_estimates,
    normalized_squared_error_estimates,
)
from dlrm_mtl.model_schema import TaskKind


def normalized_loss_estimates(sums: FloatArray, kinds: Sequence[TaskKind]) -> Estimates:
    """Of M tasks.

    Args:
        sums: (K, M, 8), by bucket.
        kinds: (M,).
    """
    return join([sum_estimates(sums[:, [column]], kind)["ne"] for column, kind in enumerate(kinds)])


def sum_estimates(sums: FloatArray, kind: TaskKind) -> dict[str, Estimates]:
    """The metrics of tasks of one kind that are functions of sums; ``ne`` is the normalized loss.

    Args:
        sums: (K, M, 8), by bucket.
    """
    if kind == "regression":
        return {
            "ne": normalized_squared_error_estimates(sums),
            "mae": mean_absolute_error_estimates(sums),
            "mean_error": mean_error_estimates(sums),
        }
    return {"ne": normalized_entropy_estimates(sums), "log_calibration": log_calibration_estimates(sums)}
