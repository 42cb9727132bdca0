"""An effect measured over seeds on a sample of rows: intervals, tests, power.

A repeated comparison would have other seeds (initial weights, order of rows) and other evaluation rows. All seeds are
evaluated on the same rows, so the spread over seeds says nothing about other rows. The half width of the interval for
new traffic combines both::

    half^2 = (t_S-1 s / sqrt(S))^2 + (t_K-1)^2 v_rows

with s the standard deviation of S seeds' effects, and v_rows the variance of the seed-mean effect over K buckets of
rows. See docs/statistics.md.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

LEVEL = 0.95
"""Confidence level of every interval by itself."""
POWER = 0.8
"""Probability with which a detectable effect is found."""
SMALLEST_P = 1e-12
"""p-values below are not distinguished."""


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
    """Error over other seeds on these rows: s / sqrt(S)."""
    seeds_freedom: int = 0
    """S - 1; 0 with one seed, whose error is unknown."""
    rows_error: float = 0.0
    """Error over other rows with these models: the square root of v_rows."""
    rows_freedom: int = 0
    """Number of buckets with rows, minus 1; 0 if the error over rows is unknown."""

    @classmethod
    def over(cls, values: Sequence[float], rows_variance: float = 0.0, row_buckets: int = 0) -> "Effect":
        """The effect from one value per seed.

        Args:
            rows_variance: variance over rows of the values' mean.
            row_buckets: number of buckets from which that variance was taken; with fewer than two it is unknown.

        Raises:
            ValueError: no value.
        """
        if not values:
            raise ValueError("no value, expected at least one")
        sample = np.asarray(values, dtype=np.float64)
        error = float(sample.std(ddof=1) / math.sqrt(len(sample))) if len(sample) > 1 else 0.0
        rows_measured = row_buckets > 1
        return cls(
            mean=float(sample.mean()),
            seeds_error=error,
            seeds_freedom=len(sample) - 1,
            rows_error=math.sqrt(rows_variance) if rows_measured else 0.0,
            rows_freedom=row_buckets - 1 if rows_measured else 0,
        )

    @property
    def has_error(self) -> bool:
        """Whether the error over seeds or over rows is known."""
        return self.seeds_freedom > 0 or self.rows_freedom > 0

    def interval(self, level: float = LEVEL) -> Interval | None:
        """Interval for other seeds and other rows, from the errors that are known; None if neither is."""
        if not self.has_error:
            return None
        half = self._half_width((1 - level) / 2)
        return Interval(self.mean, self.mean - half, self.mean + half)

    def over_seeds(self) -> Interval | None:
        """Student's interval for other seeds on these rows; None with one seed."""
        return replace(self, rows_error=0.0, rows_freedom=0).interval()

    def over_rows(self) -> Interval | None:
        """Interval for these models on other rows; None if the error over rows is unknown."""
        return replace(self, seeds_error=0.0, seeds_freedom=0).interval()

    def p_value(self, null: float = 0.0) -> float:
        """Two-sided p-value of the hypothesis that the effect is ``null``: the interval at level 1 - p ends there. 1 if
        no error is known."""
        distance = abs(self.mean - null)
        if distance == 0 or not self.has_error:
            return 1.0
        if self._half_width(SMALLEST_P / 2) <= distance:
            return SMALLEST_P

        def beyond(log_p: float) -> float:
            return self._half_width(math.exp(log_p) / 2) - distance

        return math.exp(optimize.brentq(beyond, math.log(SMALLEST_P), 0.0))

    def p_above(self, bound: float) -> float:
        """One-sided p-value of the hypothesis that the effect is at most ``bound``."""
        two_sided = self.p_value(bound)
        return two_sided / 2 if self.mean > bound else 1 - two_sided / 2

    def p_within(self, bound: float) -> float:
        """p-value of the hypothesis that the effect's absolute value is at least ``bound`` (two one-sided tests,
        Schuirmann 1987)."""
        return max(self.p_above(-bound), 1 - self.p_above(bound))

    def power(self, true_effect: float) -> float:
        """Probability that the interval excludes 0 on the side of a true effect of this size, if these errors are the
        true ones. Exact for normal effects: both errors are estimated anew in each comparison, with chi-square
        distributions."""
        error = math.hypot(self.seeds_error, self.rows_error)
        if error == 0:
            return float(self.has_error and true_effect != 0)
        return float(special.ndtr((abs(true_effect) - self._half_widths()) / error).mean())

    def detectable(self, power: float = POWER) -> float | None:
        """The smallest true effect for which the interval excludes 0 with this probability, see :meth:`power`. None if
        no error is known."""
        error = math.hypot(self.seeds_error, self.rows_error)
        if not self.has_error or error == 0:
            return 0.0 if self.has_error else None
        half = self._half_widths()

        def beyond(effect: float) -> float:
            return float(special.ndtr((effect - half) / error).mean()) - power

        high = error
        while beyond(high) < 0:
            high *= 2
        return float(optimize.brentq(beyond, 0.0, high, xtol=1e-6 * error))

    def _half_widths(self) -> npt.NDArray[np.float64]:
        """(Q, Q) half widths of the interval, for each pair of the Q equally probable quantiles of both estimated
        errors."""
        tail = (1 - LEVEL) / 2
        seeds, rows = (_quantiles_of_estimate(freedom) for freedom in (self.seeds_freedom, self.rows_freedom))
        widths: npt.NDArray[np.float64] = np.hypot.outer(
            student_quantile(self.seeds_freedom, tail) * self.seeds_error * seeds,
            student_quantile(self.rows_freedom, tail) * self.rows_error * rows,
        )
        return widths

    def _half_width(self, tail: float) -> float:
        """Half width from both errors, each times its Student quantile with this probability beyond either end."""
        return math.hypot(
            student_quantile(self.seeds_freedom, tail) * self.seeds_error,
            student_quantile(self.rows_freedom, tail) * self.rows_error,
        )


def student_quantile(freedom: int, tail: float) -> float:
    """Quantile of Student's distribution by the probability above it, which keeps the digits of small ones; 0 without
    degrees of freedom."""
    return -float(special.stdtrit(freedom, tail)) if freedom else 0.0


@functools.cache
def _quantiles_of_estimate(freedom: int, points: int = 100) -> npt.NDArray[np.float64]:
    """(points,) equally probable ratios of estimated to true standard error."""
    if not freedom:
        return np.ones(1)
    return np.sqrt(special.chdtri(freedom, (np.arange(points) + 0.5) / points) / freedom)
