"""Counts and label rates of ids as features, such that no row sees its own label.

Notation: N rows, M tasks, K = 1 + 2 M sums.
"""

import numpy as np
import numpy.typing as npt

from dlrm_mtl.studies.trees.case import Visible

FloatArray = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def outcomes_of(labels: npt.NDArray[np.float32], weights: npt.NDArray[np.float32]) -> FloatArray:
    """(N, K) what is summed: 1, weights, weighted labels; from (N, M), with weight 0 where a task is not defined."""
    ones = np.ones((len(labels), 1))
    return np.concatenate([ones, weights, weights * labels], axis=1, dtype=np.float64)


def parts_of(rows: int, parts: int, visible: Visible) -> Integers:
    """(N,) part of each row: consecutive rows, or with ``others`` random ones."""
    if visible == "others":
        return np.random.default_rng(0).integers(parts, size=rows)
    return np.arange(rows) * parts // rows


def training_rates(
    ids: Integers, outcomes: FloatArray, parts: Integers, cardinality: int, visible: Visible, smoothing: float
) -> FloatArray:
    """(N, 1 + M) features of training rows, see :func:`rates`, from the rows of the parts that a row sees.

    Args:
        ids: (N,) of a categorical feature.
        outcomes: (N, K).
        parts: (N,) from 0.
    """
    total = sums_by_id(ids, outcomes, cardinality)
    before = np.zeros_like(total)
    columns = np.empty((len(ids), outcomes.shape[1] // 2 + 1))
    for part in range(int(parts.max()) + 1):
        mine = parts == part
        own = sums_by_id(ids[mine], outcomes[mine], cardinality)
        columns[mine] = rates(before if visible == "earlier" else total - own, ids[mine], smoothing)
        before = before + own
    return columns


def sums_by_id(ids: Integers, outcomes: FloatArray, cardinality: int) -> FloatArray:
    """(cardinality, K) sums of (N, K) outcomes by (N,) ids."""
    return np.stack([np.bincount(ids, column, cardinality) for column in outcomes.T], axis=1)


def rates(sums: FloatArray, ids: Integers, smoothing: float) -> FloatArray:
    """(N, 1 + M) of (N,) ids: the share of the summed rows that have the id, and for each task the mean label of these
    rows, smoothed towards that of all. NaN where no row is summed.

    Args:
        sums: (cardinality, K).
        smoothing: number of rows that the mean of all counts for.
    """
    tasks = sums.shape[1] // 2
    total, own = sums.sum(axis=0), sums[ids]
    with np.errstate(invalid="ignore"):
        share = own[:, :1] / total[0]
        mean = total[1 + tasks :] / total[1 : 1 + tasks]
        smoothed = (own[:, 1 + tasks :] + smoothing * mean) / (own[:, 1 : 1 + tasks] + smoothing)
    return np.concatenate([share, smoothed], axis=1)
