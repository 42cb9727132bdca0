"""Intervals, at 95 %."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from dlrm_mtl.training.metrics import normalized_entropy

FloatArray = npt.NDArray[np.float64]

LEVEL = 0.95
REPLICATES = 2000


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its interval."""

    center: float
    low: float
    high: float


def t_interval(values: Sequence[float]) -> Interval:
    """Mean of independent values (one per seed) with Student's interval.

    Raises:
        ValueError: fewer than two values.
    """
    if len(values) < 2:
        raise ValueError(f"{len(values)} values, expected at least two for an interval")
    sample = np.asarray(values, dtype=np.float64)
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(sample) - 1) * sample.std(ddof=1) / np.sqrt(len(sample)))
    mean = float(sample.mean())
    return Interval(mean, mean - half, mean + half)


def median_interval(values: Sequence[float], seed: int = 0) -> Interval:
    """Median with its percentile-bootstrap interval; for QPS changes over window pairs, which have outliers."""
    sample = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(len(sample), size=(REPLICATES, len(sample)))
    return _percentiles(float(np.median(sample)), np.median(sample[draws], axis=1))


def paired_bootstrap(control: FloatArray, arm: FloatArray, seed: int = 0) -> tuple[list[Interval], Interval]:
    """NE gains (%) of one seed, with intervals from resampling evaluation rows, the same ones for both arms.

    Rows are resampled in the K buckets of their hash, so that memory does not grow with the split.

    Args:
        control: (K, M, 4) sums of the control, as :class:`dlrm_mtl.training.metrics.MetricSums` keeps them.
        arm: (K, M, 4) of the arm, over the same rows.

    Returns:
        the gain of each task, and the gain averaged over tasks.
    """
    buckets = len(control)
    counts = np.random.default_rng(seed).multinomial(buckets, np.full(buckets, 1 / buckets), size=REPLICATES)
    weights = np.concatenate([np.ones((1, buckets)), counts])  # the first row is the sample itself
    gains = 100 * (_resampled_ne(weights, control) - _resampled_ne(weights, arm))  # (1 + REPLICATES, M)
    tasks = [_percentiles(float(column[0]), column[1:]) for column in gains.T]
    average = gains.mean(axis=1)
    return tasks, _percentiles(float(average[0]), average[1:])


def _resampled_ne(weights: FloatArray, sums: FloatArray) -> FloatArray:
    return normalized_entropy(np.einsum("rk,kmc->rmc", weights, sums, optimize=True))


def _percentiles(center: float, replicates: FloatArray) -> Interval:
    # A resample may miss the only positives of a rare task; it then has no NE.
    low, high = np.nanquantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(center, float(low), float(high))
