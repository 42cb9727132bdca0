"""Metrics of regression tasks that are functions of sums over rows, with the influence of each bucket of rows."""

import numpy as np

from dlrm_mtl.metrics.bucket_sums import ABSOLUTE_ERROR, LABELS, LOSS, PREDICTED, SQUARED_LABELS, WEIGHT
from dlrm_mtl.metrics.estimates import Estimates, FloatArray, where_finite

ROUNDING = 1e-12
"""Variance of labels relative to their mean square that may be rounding alone."""


def label_variance(sums: FloatArray) -> FloatArray:
    """(...) variance of the labels from (..., 8) sums, by the rows' weights; NaN if all labels are equal."""
    with np.errstate(divide="ignore", invalid="ignore"):
        square = sums[..., SQUARED_LABELS] / sums[..., WEIGHT]
        variance = square - np.square(sums[..., LABELS] / sums[..., WEIGHT])
        return np.where(variance > ROUNDING * square, variance, np.nan)


def normalized_squared_error_estimates(sums: FloatArray) -> Estimates:
    """NMSE of M tasks: squared error / that of the mean label of the same rows.

    Args:
        sums: (K, M, 8), by bucket.
    """
    totals = sums.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = totals[:, LABELS] / totals[:, WEIGHT]
        of_mean = sums[..., SQUARED_LABELS] - 2 * mean * sums[..., LABELS] + np.square(mean) * sums[..., WEIGHT]
        total = totals[:, WEIGHT] * label_variance(totals)
        values = totals[:, LOSS] / total
        return where_finite(values, (sums[..., LOSS] - values * of_mean) / total)


def mean_absolute_error_estimates(sums: FloatArray) -> Estimates:
    """MAE of M tasks, in the label's unit; as :func:`normalized_squared_error_estimates`."""
    return _mean(sums[..., ABSOLUTE_ERROR], sums[..., WEIGHT])


def mean_error_estimates(sums: FloatArray) -> Estimates:
    """Mean prediction less mean label of M tasks; as :func:`normalized_squared_error_estimates`."""
    return _mean(sums[..., PREDICTED] - sums[..., LABELS], sums[..., WEIGHT])


def _mean(errors: FloatArray, weights: FloatArray) -> Estimates:
    """From (K, M) sums."""
    with np.errstate(divide="ignore", invalid="ignore"):
        values = errors.sum(axis=0) / weights.sum(axis=0)
        return where_finite(values, (errors - values * weights) / weights.sum(axis=0))
