"""Metrics that are functions of sums over rows, with the influence of each bucket of rows."""

import numpy as np

from dlrm_mtl.metrics.estimates import Estimates, FloatArray, where_finite

ROWS, POSITIVES, LOG_LOSS, PREDICTED = range(4)
"""Columns of the sums: defined rows, positives, log loss (nats), sum of predictions."""


def normalized_entropy(sums: FloatArray) -> FloatArray:
    """NE from sums.

    Args:
        sums: (..., 4).

    Returns:
        (...) NaN if one class is missing.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums[..., LOG_LOSS] / _entropy(sums)


def normalized_entropy_estimates(sums: FloatArray) -> Estimates:
    """NE of M tasks.

    Args:
        sums: (K, M, 4), by bucket.
    """
    totals = sums.sum(axis=0)
    values = normalized_entropy(totals)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = totals[:, POSITIVES] / totals[:, ROWS]
        negatives = sums[..., ROWS] - sums[..., POSITIVES]
        entropy = -(sums[..., POSITIVES] * np.log(rate) + negatives * np.log1p(-rate))
        influence = (sums[..., LOG_LOSS] - values * entropy) / _entropy(totals)
    return where_finite(values, influence)


def log_calibration_estimates(sums: FloatArray) -> Estimates:
    """Logarithm of mean prediction / base rate for M tasks.

    Args:
        sums: (K, M, 4), by bucket.
    """
    totals = sums.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.log(totals[:, PREDICTED] / totals[:, POSITIVES])
        influence = sums[..., PREDICTED] / totals[:, PREDICTED] - sums[..., POSITIVES] / totals[:, POSITIVES]
    return where_finite(values, influence)


def _entropy(sums: FloatArray) -> FloatArray:
    """(...) entropy of the base rate, times rows; NaN if one class is missing."""
    rows, positives = sums[..., ROWS], sums[..., POSITIVES]
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = positives / rows
        entropy = -rows * (rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
    return np.where((positives > 0) & (positives < rows), entropy, np.nan)
