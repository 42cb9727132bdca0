"""How many intervals exclude 0 by chance, if no arm differs from the shared control."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dlrm_mtl.statistics.effect import LEVEL, Effect, student_quantile

TAIL = (1 - LEVEL) / 2
DRAWS = 10_000
NUMBERS = 4_000_000
"""Upper limit for the numbers drawn in a simulation; with many arms and seeds it has fewer draws."""


@dataclass(frozen=True)
class Chance:
    """Numbers of intervals that exclude 0 by chance alone."""

    intervals: int
    low: int
    """The 2.5 % quantile of the number of intervals that exclude 0."""
    high: int
    """The 97.5 % quantile."""
    at_least_one: float
    """Probability that at least one excludes 0."""


def by_chance(tasks: Iterable[Sequence[Effect]], seed: int = 0) -> Chance:
    """Simulates comparisons in which no arm differs from the control.

    The arms' errors have correlation 1/2, since they share the control: if it is bad by chance, all arms look good.
    Tasks are taken as independent; if they are not, the range is wider.

    Args:
        tasks: for each task, the effects of all arms but the control. Their numbers of seeds and their errors, averaged
            over arms, are used; effects without an interval are left out.
        seed: seed of the simulation.
    """
    families = [family for effects in tasks if (family := [effect for effect in effects if effect.has_error])]
    numbers = sum((len(family) + 1) * (max(effect.seeds_freedom for effect in family) + 2) for family in families)
    draws = min(DRAWS, NUMBERS // max(numbers, 1))
    generator = np.random.default_rng(seed)
    distribution = np.ones(1)  # by the number of intervals that exclude 0, from 0 on
    for family in families:
        excluded = _excluded(family, draws, generator)
        distribution = np.convolve(distribution, np.bincount(excluded, minlength=len(family) + 1) / draws)
    below = np.cumsum(distribution)
    return Chance(
        intervals=len(distribution) - 1,
        low=int(np.searchsorted(below, TAIL, side="right")),
        high=int(np.searchsorted(below, 1 - TAIL)),
        at_least_one=float(1 - distribution[0]),
    )


def _excluded(family: Sequence[Effect], draws: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """(draws,) how many of the intervals of arms on one task exclude 0."""
    seeds = [effect.seeds_freedom + 1 for effect in family]
    of_seed = _root_mean_square([e.seeds_error * np.sqrt(n) for e, n in zip(family, seeds, strict=True) if n > 1])
    of_rows = _root_mean_square([effect.rows_error for effect in family if effect.rows_freedom])
    # Each model, the control first, has half the variance of a difference.
    by_seed = of_seed * np.sqrt(0.5) * generator.standard_normal((draws, len(family) + 1, max(seeds)))
    by_rows = of_rows * np.sqrt(0.5) * generator.standard_normal((draws, len(family) + 1))
    excluded = np.zeros(draws, dtype=np.int64)
    for arm, (effect, count) in enumerate(zip(family, seeds, strict=True), start=1):
        mean, half = np.zeros(draws), np.zeros(draws)
        if effect.seeds_freedom:
            gains = by_seed[:, 0, :count] - by_seed[:, arm, :count]
            mean += gains.mean(axis=1)
            half += student_quantile(effect.seeds_freedom, TAIL) * gains.std(axis=1, ddof=1) / np.sqrt(count)
        if effect.rows_freedom:
            mean += by_rows[:, 0] - by_rows[:, arm]
            half = np.hypot(half, student_quantile(effect.rows_freedom, TAIL) * of_rows)
        excluded += np.abs(mean) > half
    return excluded


def _root_mean_square(errors: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(errors)))) if errors else 0.0
