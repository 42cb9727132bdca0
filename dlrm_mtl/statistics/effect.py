"""An effect that was measured over seeds on a sample of rows: its interval, tests of it, and what it could have shown.

Two things would turn out otherwise if a comparison were done again: the seeds (initial weights, order of rows) and the
evaluation rows. All seeds of a comparison are evaluated on the same rows, so that the spread over seeds says nothing of
other rows. The half width of the interval for new traffic holds both::

    half^2 = (t_S-1 s / sqrt(S))^2 + (t_K-1)^2 v_rows

with s the standard deviation of S seeds' effects, and v_rows the variance of the seed-mean effect over K buckets of
rows. See docs/statistics.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

LEVEL = 0.95
"""Of every interval, each by itself."""
POWER = 0.8
"""With which a detectable effect is found."""
SMALLEST_P = 1e-12
"""p-values are not told apart below."""


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its interval."""

    center: float
    low: float
    high: float


@dataclass(frozen=True)
class Effect:
    """An effect's mean over seeds, and the standard errors of the mean."""

    mean: float
    seeds_error: float = 0.0
    """Over other seeds on these rows: s / sqrt(S)."""
    seeds_freedom: int = 0
    """S - 1; 0 with one seed, of whose error nothing is known."""
    rows_error: float = 0.0
    """Over other rows with these models: the root of v_rows."""
    rows_freedom: int = 0
    """Buckets with rows, less one; 0 where the error over rows is not known."""

    @classmethod
    def over(cls, values: Sequence[float], rows_variance: float = 0.0, row_buckets: int = 0) -> "Effect":
        """From one value per seed.

        Args:
            rows_variance: of the values' mean, over rows.
            row_buckets: from how many buckets of rows that variance was taken; fewer than two tell nothing.

        Raises:
            ValueError: no value.
        """
        if not values:
            raise ValueError("no value, expected at least one")
        sample = np.asarray(values, dtype=np.float64)
        error = float(sample.std(ddof=1) / math.sqrt(len(sample))) if len(sample) > 1 else 0.0
        known = row_buckets > 1
        return cls(
            mean=float(sample.mean()),
            seeds_error=error,
            seeds_freedom=len(sample) - 1,
            rows_error=math.sqrt(rows_variance) if known else 0.0,
            rows_freedom=row_buckets - 1 if known else 0,
        )

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return self.seeds_freedom > 0 or self.rows_freedom > 0

    def half_width(self, level: float = LEVEL) -> float:
        """Of the interval for other seeds and other rows, as far as either is known."""
        return self._spread((1 + level) / 2)

    def interval(self, level: float = LEVEL) -> Interval:
        """For other seeds and other rows, as far as either is known."""
        half = self.half_width(level)
        return Interval(self.mean, self.mean - half, self.mean + half)

    def over_seeds(self) -> Interval:
        """For other seeds on these rows: Student's."""
        return Effect(self.mean, self.seeds_error, self.seeds_freedom).interval()

    def over_rows(self) -> Interval:
        """For these models on other rows."""
        return Effect(self.mean, rows_error=self.rows_error, rows_freedom=self.rows_freedom).interval()

    def p_value(self, null: float = 0.0) -> float:
        """Two-sided, of an effect that is truly ``null``: the interval at level 1 - p ends there."""
        distance = abs(self.mean - null)
        if distance == 0 or not self.known:
            return 1.0
        if self._spread(1 - SMALLEST_P / 2) <= distance:
            return SMALLEST_P

        def beyond(log_p: float) -> float:
            return self._spread(1 - math.exp(log_p) / 2) - distance

        return math.exp(optimize.brentq(beyond, math.log(SMALLEST_P), 0.0))

    def p_above(self, bound: float) -> float:
        """One-sided, of an effect that is truly ``bound`` or less."""
        two_sided = self.p_value(bound)
        return two_sided / 2 if self.mean > bound else 1 - two_sided / 2

    def p_within(self, bound: float) -> float:
        """Of an effect that is truly ``bound`` or more to either side (two one-sided tests, Schuirmann 1987)."""
        return max(self.p_above(-bound), 1 - self.p_above(bound))

    def detectable(self, power: float = POWER) -> float:
        """The smallest true effect whose interval excludes 0 with this probability."""
        return self._spread((1 + LEVEL) / 2, power)

    def _spread(self, *quantiles: float) -> float:
        """Both errors, each as many times as the sum of these quantiles of its distribution."""
        parts = ((self.seeds_error, self.seeds_freedom), (self.rows_error, self.rows_freedom))
        return math.hypot(
            *(sum(float(stats.t.ppf(q, freedom)) for q in quantiles) * error for error, freedom in parts if freedom)
        )
