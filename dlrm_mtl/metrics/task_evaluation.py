"""Metrics of one task from its single predictions."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import torch

from dlrm_mtl.metrics.buckets import BUCKETS, bucket_of, half_of
from dlrm_mtl.metrics.estimates import Estimates, over_rows, undefined
from dlrm_mtl.metrics.grouped_auc import grouped_auc
from dlrm_mtl.metrics.kept import POSITIVE, UNDEFINED, Sample
from dlrm_mtl.metrics.ranking import Ranking, Rows
from dlrm_mtl.metrics.recalibration import recalibrate
from dlrm_mtl.metrics.task_metrics import Bounds, TaskEvaluation, TaskMetrics

OF_ROWS = ("auc", "auprc", "recalibrated_ne")
OF_CLUSTERS = ("gauc", "uauc")


@dataclass(frozen=True)
class MeasuredTask:
    """A task's metrics, and the estimates of those that have an error."""

    numbers: TaskEvaluation
    estimates: Mapping[str, Estimates]


class TaskMeasurement:
    """Measures the tasks of a sample one by one.

    Args:
        clusters: whether the sample's keys stand for clusters, not for single rows.
    """

    def __init__(self, sample: Sample, clusters: bool) -> None:
        self._sample = sample
        keys = torch.from_numpy(sample.keys)
        self._buckets = bucket_of(keys, BUCKETS).numpy()
        self._fitted = half_of(keys).numpy()
        self._clusters: npt.NDArray[np.int64] | None = None
        if clusters:
            self._clusters = np.unique(sample.keys, return_inverse=True)[1]

    def measure(self, task: int, sums: TaskMetrics, log_calibration: Estimates) -> MeasuredTask:
        """Measures a task.

        Args:
            sums: the task's metrics from sums over all rows.
            log_calibration: of this task only.
        """
        outcomes, logits = self._sample.outcomes[:, task], self._sample.logits[:, task]
        defined = outcomes != UNDEFINED
        rows = Rows(logits[defined], outcomes[defined] == POSITIVE, self._buckets[defined], BUCKETS)
        numbers = {
            **asdict(sums),
            "calibration_interval": _calibration_interval(log_calibration),
            "users_share": self._sample.clusters_share,
            "rows_share": len(rows.positive) / sums.rows if sums.rows else 1.0,
        }
        keys = (*OF_ROWS, *OF_CLUSTERS) if self._clusters is not None else OF_ROWS
        estimates = {key: undefined(BUCKETS) for key in keys}
        if rows.positive.any() and not rows.positive.all() and np.isfinite(rows.logits).all():
            ranking = Ranking(rows)
            recalibration = recalibrate(rows, self._fitted[defined])
            numbers |= {
                "tied_pairs": ranking.tied_pairs(),
                "deciles": ranking.deciles(),
                "recalibration_bias": recalibration.bias,
            }
            estimates |= {
                "auc": ranking.auc(),
                "auprc": ranking.average_precision(),
                "recalibrated_ne": recalibration.ne,
            }
            if self._clusters is not None:
                gauc, uauc, numbers["users"] = grouped_auc(rows, self._clusters[defined])
                estimates |= {"gauc": gauc, "uauc": uauc}
        numbers |= {key: _number(estimate) for key, estimate in estimates.items()}
        return MeasuredTask(TaskEvaluation(**numbers), estimates)


def _calibration_interval(log_calibration: Estimates) -> Bounds | None:
    """Symmetric on the logarithmic scale."""
    interval = over_rows(log_calibration)
    return None if interval is None else Bounds(math.exp(interval.low), math.exp(interval.high))


def _number(estimates: Estimates) -> float | None:
    value = float(estimates.values[0])
    return None if math.isnan(value) else value
