"""How many seeds and rows an effect needs to be found."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from dlrm_mtl.statistics.effect import LEVEL, POWER, Effect

MOST_SEEDS = 10**6
"""Upper limit of the search for seeds."""
LEAST_TIMES, MOST_TIMES = 1e-6, 1e9
"""Limits of the search for rows, in multiples of the present rows."""
ROWS_FREEDOM = 999
"""Degrees of freedom of the error over rows: those of an evaluation's buckets."""


@dataclass(frozen=True)
class Noise:
    """Standard deviations of the independent parts of an effect measured with one seed on a sample of rows, in the
    effect's unit. The mean over S seeds, on a sample r times as large, has the variance::

        shared_rows^2 / r + (seed^2 + own_rows^2 / r) / S
    """

    seed: float
    """Over seeds, on unlimited rows."""
    shared_rows: float = 0.0
    """Over samples of rows, shared by all seeds: more seeds do not reduce it."""
    own_rows: float = 0.0
    """Over samples of rows, individual to each seed: part of the observed spread over seeds."""

    @classmethod
    def measured(cls, values: Sequence[float], variances: Sequence[float] = (), of_mean: float = 0.0) -> "Noise":
        """The noise from S seeds that were evaluated on the same rows.

        Args:
            values: the effect of each seed.
            variances: variance of each value over rows; empty if unknown.
            of_mean: variance over rows of the mean over seeds.

        Raises:
            ValueError: fewer than two seeds.
        """
        seeds = len(values)
        if seeds < 2:
            raise ValueError(f"{seeds} seeds, expected at least two: the spread over seeds is not known")
        spread = float(np.var(np.asarray(values, dtype=np.float64), ddof=1))
        if not variances:
            return cls(math.sqrt(spread))
        # A single seed has shared + own, the mean has shared + own / S.
        alone = float(np.mean(variances))
        shared = min(max((seeds * of_mean - alone) / (seeds - 1), 0.0), alone)
        own = alone - shared
        return cls(math.sqrt(max(spread - own, 0.0)), math.sqrt(shared), math.sqrt(own))

    @property
    def over_seeds(self) -> float:
        """The spread over seeds that is observed on the same rows."""
        return math.hypot(self.seed, self.own_rows)

    def effect(self, seeds: int, rows_times: float = 1.0) -> Effect:
        """An effect of 0 with the errors expected from this many seeds and multiples of the rows."""
        own, shared = self.own_rows**2 / rows_times, self.shared_rows**2 / rows_times
        rows_error = math.sqrt(shared + own / seeds)
        freedom = ROWS_FREEDOM if rows_error else 0
        return Effect(0.0, math.sqrt((self.seed**2 + own) / seeds), seeds - 1, rows_error, freedom)


def seeds_needed(noise: Noise, effect: float) -> int | None:
    """The smallest number of seeds that find an effect of this size with 80 % probability. None if the error over rows
    alone rules it out, or more than a million seeds are needed."""
    few, many = 1, 2
    while noise.effect(many).power(effect) < POWER:
        few, many = many, 2 * many
        if many > MOST_SEEDS:
            return None
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (middle, many) if noise.effect(middle).power(effect) < POWER else (few, middle)
    return many


def rows_needed(noise: Noise, effect: float, seeds: int) -> float | None:
    """The multiple of these rows that finds an effect of this size with this many seeds. None if the spread over seeds
    alone rules it out, or more than 1e9 are needed."""

    def missing(log_times: float) -> float:
        return noise.effect(seeds, math.exp(log_times)).power(effect) - POWER

    least, most = (math.log(times) for times in (LEAST_TIMES, MOST_TIMES))
    if missing(most) <= 0:
        return None
    if missing(least) >= 0:
        return LEAST_TIMES
    return math.exp(optimize.brentq(missing, least, most, xtol=1e-6))


def fewest_rows(noise: Noise, effect: float) -> float:
    """The multiple of these rows below which no number of seeds finds an effect of this size."""
    return ((special.ndtri((1 + LEVEL) / 2) + special.ndtri(POWER)) * noise.shared_rows / abs(effect)) ** 2
