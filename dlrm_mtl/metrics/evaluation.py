"""The results of evaluating one model."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dlrm_mtl.metrics.estimates import Estimates, FloatArray, join, join_metrics
from dlrm_mtl.metrics.task_metrics import TaskEvaluation

SEGMENT_BUCKETS = 100
"""K, the number of buckets of a segment's estimates."""


@dataclass(frozen=True)
class SegmentEvaluation:
    """The rows with one value of a segment."""

    rows: int
    ne: Estimates
    """Normalized losses of M tasks, over buckets of clusters: K = 100."""


@dataclass(frozen=True)
class EvaluationEstimates:
    """Metrics of M tasks with the influence of each bucket of rows, as seed-S.npz keeps them for an arm."""

    estimates: Mapping[str, Estimates]
    """By metric: ``ne``, the normalized loss (NMSE of a regression); of binary tasks ``log_calibration``, ``auc``,
    ``auprc``, ``recalibrated_ne``, and if rows have a cluster, ``gauc`` and ``uauc``; of regressions ``mae``,
    ``mean_error`` and ``xauc``."""
    segments: Mapping[str, Mapping[str, SegmentEvaluation]]
    """By segment and value."""
    product_estimates: Mapping[str, Estimates] = field(default_factory=dict)
    """As ``estimates``, of P products of tasks, see :func:`dlrm_mtl.funnels.products`; empty: there are none."""


@dataclass(frozen=True, kw_only=True)
class EvaluationMetrics(EvaluationEstimates):
    """The metrics of one model on a split."""

    tasks: Sequence[TaskEvaluation]
    """M."""
    products: Mapping[str, TaskEvaluation] = field(default_factory=dict)
    """P, by the name of the last task of each."""

    def of_tasks(self, tasks: Sequence[int], products: Collection[str]) -> "EvaluationMetrics":
        """The metrics of some tasks and products."""
        segments = {
            name: {value: SegmentEvaluation(part.rows, part.ne.of_tasks(tasks)) for value, part in values.items()}
            for name, values in self.segments.items()
        }
        places = [place for place, name in enumerate(self.products) if name in products]
        return EvaluationMetrics(
            {metric: estimates.of_tasks(tasks) for metric, estimates in self.estimates.items()},
            segments,
            {metric: estimates.of_tasks(places) for metric, estimates in self.product_estimates.items() if places},
            tasks=[self.tasks[task] for task in tasks],
            products={name: metrics for name, metrics in self.products.items() if name in products},
        )


@dataclass(frozen=True, kw_only=True)
class Evaluation(EvaluationMetrics):
    """The evaluation of one model on a split."""

    sums: FloatArray
    """(K, M, 8) sums over all rows by bucket, see :mod:`dlrm_mtl.metrics.bucket_sums`."""


def side_by_side(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Joins evaluations of models for different tasks on the same rows into one of all tasks, without products."""
    first = evaluations[0]
    return Evaluation(
        estimates=join_metrics([each.estimates for each in evaluations]),
        segments={
            name: {
                value: SegmentEvaluation(segment.rows, join([each.segments[name][value].ne for each in evaluations]))
                for value, segment in values.items()
            }
            for name, values in first.segments.items()
        },
        tasks=[task for each in evaluations for task in each.tasks],
        sums=np.concatenate([each.sums for each in evaluations], axis=1),
    )
