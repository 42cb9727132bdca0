"""Intervals, at 95 %."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

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
    return percentile_interval(float(np.median(sample)), np.median(sample[draws], axis=1))


def percentile_interval(center: float, replicates: FloatArray) -> Interval:
    """The interval from bootstrap replicates of an estimate."""
    # A resample may miss the only positives of a rare task; it then has no NE.
    low, high = np.nanquantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(center, float(low), float(high))


def mean_record(interval: Interval | None) -> dict[str, float] | None:
    """An interval as comparison.json has it."""
    if interval is None:
        return None
    return {"mean": interval.center, "low": interval.low, "high": interval.high}
