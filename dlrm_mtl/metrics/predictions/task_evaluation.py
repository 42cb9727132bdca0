"""Metrics of one task from its single predictions."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dlrm_mtl.metrics.buckets import BUCKETS, bucket_of, half_of
from dlrm_mtl.metrics.estimates import Estimates, over_rows, undefined
from dlrm_mtl.metrics.predictions.grouped_auc import grouped_auc
from dlrm_mtl.metrics.predictions.kept import Sample
from dlrm_mtl.metrics.predictions.ranking import Ranking
from dlrm_mtl.metrics.predictions.recalibration import recalibrate
from dlrm_mtl.metrics.predictions.rows import LabelledRows, Rows
from dlrm_mtl.metrics.predictions.xauc import label_deciles, xauc
from dlrm_mtl.metrics.task_metrics import (
    BinaryEvaluation,
    BinaryMetrics,
    Bounds,
    RegressionEvaluation,
    RegressionMetrics,
    TaskEvaluation,
    TaskMetrics,
)

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

    def measure(self, task: int, sums: TaskMetrics, estimates: Mapping[str, Estimates]) -> MeasuredTask:
        """Measures a task.

        Args:
            sums: the task's metrics from sums over all rows.
            estimates: those of these metrics.
        """
        defined = self._sample.weights[:, task] > 0
        shares: dict[str, Any] = {
            "users_share": self._sample.clusters_share,
            "rows_share": int(defined.sum()) / sums.rows if sums.rows else 1.0,
        }
        rows = {
            "weights": self._sample.weights[defined, task].astype(np.float64),
            "buckets": self._buckets[defined],
            "num_buckets": BUCKETS,
        }
        outputs, labels = self._sample.logits[defined, task], self._sample.labels[defined, task]
        if isinstance(sums, RegressionMetrics):
            labelled = LabelledRows(predictions=outputs, labels=labels.astype(np.float32), **rows)
            return _measure_regression(labelled, sums, estimates, shares)
        return self._measure_binary(Rows(logits=outputs, positive=labels > 0, **rows), defined, sums, estimates, shares)

    def _measure_binary(
        self,
        rows: Rows,
        defined: npt.NDArray[np.bool_],
        sums: BinaryMetrics,
        of_sums: Mapping[str, Estimates],
        shares: Mapping[str, Any],
    ) -> MeasuredTask:
        numbers: dict[str, Any] = {
            **asdict(sums),
            **shares,
            "calibration_interval": _calibration_interval(of_sums["log_calibration"]),
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
        return MeasuredTask(BinaryEvaluation(**numbers), {**of_sums, **estimates})


def _measure_regression(
    rows: LabelledRows, sums: RegressionMetrics, of_sums: Mapping[str, Estimates], shares: Mapping[str, Any]
) -> MeasuredTask:
    is_finite = np.isfinite(rows.predictions).all()
    order = xauc(rows) if is_finite and len(rows.labels) else undefined(BUCKETS)
    interval = over_rows(of_sums["mean_error"])
    numbers = RegressionEvaluation(
        **asdict(sums),
        **shares,
        mean_error_interval=None if interval is None else Bounds(interval.low, interval.high),
        deciles=label_deciles(rows) if is_finite else (),
        xauc=_number(order),
    )
    return MeasuredTask(numbers, {**of_sums, "xauc": order})


def _calibration_interval(log_calibration: Estimates) -> Bounds | None:
    """Symmetric on the logarithmic scale."""
    interval = over_rows(log_calibration)
    return None if interval is None else Bounds(math.exp(interval.low), math.exp(interval.high))


def _number(estimates: Estimates) -> float | None:
    value = float(estimates.values[0])
    return None if math.isnan(value) else value
