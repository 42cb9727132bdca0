"""Metrics of binary tasks that are functions of sums over rows, with the influence of each bucket of rows."""

import numpy as np

from dlrm_mtl.metrics.estimates import Estimates, FloatArray, where_finite

WEIGHT, LABELS, LOSS, PREDICTED, ROWS, POSITIVES, SQUARED_LABELS, ABSOLUTE_ERROR = range(8)
"""Columns of the sums over the rows where a task is defined: weights; labels, loss (log loss in nats, or squared error)
and predictions, by weight; numbers of rows and of positives; and, of regression tasks, squares of labels and absolute
errors, by weight."""
COLUMNS = 8


def normalized_entropy(sums: FloatArray) -> FloatArray:
    """NE from sums.

    Args:
        sums: (..., 8).

    Returns:
        (...) NaN if one class is missing.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums[..., LOSS] / _entropy(sums)


def normalized_entropy_estimates(sums: FloatArray) -> Estimates:
    """NE of M tasks.

    Args:
        sums: (K, M, 8), by bucket.
    """
    totals = sums.sum(axis=0)
    values = normalized_entropy(totals)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = totals[:, LABELS] / totals[:, WEIGHT]
        negatives = sums[..., WEIGHT] - sums[..., LABELS]
        entropy = -(sums[..., LABELS] * np.log(rate) + negatives * np.log1p(-rate))
        influence = (sums[..., LOSS] - values * entropy) / _entropy(totals)
    return where_finite(values, influence)


def log_calibration_estimates(sums: FloatArray) -> Estimates:
    """Logarithm of mean prediction / base rate for M tasks.

    Args:
        sums: (K, M, 8), by bucket.
    """
    totals = sums.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.log(totals[:, PREDICTED] / totals[:, LABELS])
        influence = sums[..., PREDICTED] / totals[:, PREDICTED] - sums[..., LABELS] / totals[:, LABELS]
    return where_finite(values, influence)


def _entropy(sums: FloatArray) -> FloatArray:
    """(...) entropy of the base rate, times the rows' weight; NaN if one class is missing."""
    rows, positives = sums[..., WEIGHT], sums[..., LABELS]
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = positives / rows
        entropy = -rows * (rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
    return np.where((positives > 0) & (positives < rows), entropy, np.nan)
