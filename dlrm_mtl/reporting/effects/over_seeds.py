"""Effects over the seeds of a comparison, and their form in comparison.json."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from dlrm_mtl.metrics.estimates import Estimates, combine
from dlrm_mtl.reporting.effects.gains import Gains
from dlrm_mtl.statistics.effect import LEVEL, Effect, Interval, student_quantile

Covers = Literal["seeds and rows", "seeds", "rows"]
"""What an interval covers: other seeds, other evaluation rows, or both."""
ROWS_FREEDOM = 999
"""Degrees of freedom of an interval over rows whose file holds only its ends."""


def effect_over_seeds(
    values: Sequence[float], gains: Sequence[Gains] | None, metric: str, shares: Sequence[float]
) -> Effect:
    """The effect over seeds, from one value per seed.

    Args:
        gains: gains of the same seeds, for the error over rows; None if it is not known.
        metric: the metric of the gains.
        shares: (M,) weight of each task in the values; for a single task, 1 for it and 0 for the others.
    """
    if gains is None or any(metric not in of_seed.metrics for of_seed in gains):
        return Effect.over(values)
    used = np.flatnonzero(shares)
    weights = np.asarray(shares, dtype=np.float64)[used, None]
    # All seeds are evaluated on the same rows, so that a bucket's influences add up over seeds.
    mean = combine([1 / len(gains)] * len(gains), [of_seed.metrics[metric] for of_seed in gains])
    rows = Estimates(mean.values[used] @ weights, mean.influence[:, used] @ weights)
    if not rows.influence.any():  # the arm predicts what the control does
        return Effect.over(values, 0.0, int(gains[0].buckets[used].min()))
    variance = float(rows.variance()[0])
    return Effect.over(values, variance, int(rows.buckets()[0])) if np.isfinite(variance) else Effect.over(values)


def recorded_effect(gain: Mapping[str, Any], seeds: int) -> Effect:
    """The effect from a mean and one interval, which is all that seed-S.json and the comparison.json of earlier
    versions have: Student's interval over seeds or, with a single seed, the interval over rows."""
    mean, low, high = gain["mean"], gain.get("low"), gain.get("high")
    if low is None or high is None:
        return Effect(mean)
    freedom = seeds - 1 if seeds > 1 else ROWS_FREEDOM
    error = (high - low) / 2 / student_quantile(freedom, (1 - LEVEL) / 2)
    if seeds > 1:
        return Effect(mean, seeds_error=error, seeds_freedom=freedom)
    return Effect(mean, rows_error=error, rows_freedom=freedom)


def covers(effect: Effect) -> Covers | None:
    """None if there is no interval."""
    if effect.seeds_freedom and effect.rows_freedom:
        return "seeds and rows"
    if effect.seeds_freedom:
        return "seeds"
    return "rows" if effect.rows_freedom else None


def effect_record(effect: Effect) -> dict[str, Any]:
    """The effect with its intervals: ``low`` and ``high`` for what it ``covers``, ``over_seeds`` for other seeds on
    these rows, ``over_rows`` for these models on other rows; None if unknown."""
    return {
        "mean": effect.mean,
        **(_ends(effect.interval()) or {"low": None, "high": None}),
        "covers": covers(effect),
        "over_seeds": _ends(effect.over_seeds()),
        "over_rows": _ends(effect.over_rows()),
        "detectable": effect.detectable(),
    }


NOTHING: Mapping[str, Any] = {
    "mean": 0.0,
    "low": 0.0,
    "high": 0.0,
    "covers": None,
    "over_seeds": None,
    "over_rows": None,
    "detectable": None,
}
"""The control's gain over itself."""


def _ends(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else {"low": interval.low, "high": interval.high}
