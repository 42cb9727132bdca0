"""Effects that are measured again on each day of a stream, with S seeds.

Another stream would have other days and other seeds. Days count as independent draws; :func:`change_per_day` tells
whether there is a trend.
"""

import numpy as np
import numpy.typing as npt

from dlrm_mtl.statistics.effect import Effect

FloatArray = npt.NDArray[np.float64]


def mean_over_days(effects: FloatArray) -> Effect:
    """The mean of (S, D) effects over D days, D >= 1. Its error over rows is that over days. With a single day, which
    says nothing of others, no error is known."""
    days = effects.shape[1]
    if days == 1:
        return Effect(float(effects.mean()))
    return Effect.over(effects.mean(axis=1).tolist(), float(effects.mean(axis=0).var(ddof=1)) / days, days)


def change_per_day(effects: FloatArray, days: npt.NDArray[np.int64]) -> Effect | None:
    """The slope of (S, D) effects over the (D,) numbers of their days, by least squares; None with fewer than three.
    Its error over rows is that over days, from the residuals of the mean over seeds."""
    freedom = len(days) - 2
    if freedom < 1:
        return None
    distances = days - days.mean()
    squares = float(np.square(distances).sum())
    slopes = effects @ distances / squares
    mean = effects.mean(axis=0)
    residuals = mean - mean.mean() - slopes.mean() * distances
    variance = float(np.square(residuals).sum()) / freedom / squares
    return Effect.over(slopes.tolist(), variance, freedom + 1)
