"""What an evaluation of one model found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dlrm_mtl.metrics.estimates import Estimates, FloatArray, join
from dlrm_mtl.metrics.task_metrics import TaskEvaluation

SEGMENT_BUCKETS = 100
"""K of a segment's estimates."""


@dataclass(frozen=True)
class SegmentEvaluation:
    """The rows with one value of a segment."""

    rows: int
    ne: Estimates
    """Of M tasks, over buckets of clusters: K = 100."""


@dataclass(frozen=True)
class EvaluationEstimates:
    """Metrics of M tasks with what each bucket of rows contributes to their error: what seed-S.npz keeps of an arm."""

    estimates: Mapping[str, Estimates]
    """Of M tasks, by metric: ``ne``, ``log_calibration``, ``auc``, ``auprc``, ``recalibrated_ne``, and where rows have
    a cluster ``gauc`` and ``uauc``."""
    segments: Mapping[str, Mapping[str, SegmentEvaluation]]
    """By segment and value."""


@dataclass(frozen=True)
class Evaluation(EvaluationEstimates):
    """All that an evaluation of one model on a split found."""

    tasks: Sequence[TaskEvaluation]
    """M."""
    sums: FloatArray
    """(K, M, 4) sums over all rows by bucket, see :mod:`dlrm_mtl.metrics.bucket_sums`."""


def side_by_side(evaluations: Sequence[Evaluation]) -> Evaluation:
    """The evaluation of several models on the same rows, each of tasks of its own, as one of all tasks."""
    first = evaluations[0]
    return Evaluation(
        estimates={key: join([each.estimates[key] for each in evaluations]) for key in first.estimates},
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
