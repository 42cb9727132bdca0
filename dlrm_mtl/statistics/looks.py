"""The error rate of an interval if seeds are added after it was seen."""

from collections.abc import Sequence

import numpy as np

from dlrm_mtl.statistics.effect import LEVEL, student_quantile

DRAWS = 100_000
NUMBERS = 4_000_000
"""Upper limit for the numbers drawn in a simulation."""


def error_of_looks(seeds: Sequence[int], seed: int = 0) -> float:
    """Probability that the interval of an arm equal to its control excludes 0 at one look at least; at a single look it
    is 5 %. Rows are the same at every look: the larger their share of the interval, the less further looks add. With
    many values it is 8.3 % at two equal looks, 14.2 % at five (Armitage, McPherson and Rowe 1969).

    Args:
        seeds: numbers of seeds at each look; looks at one seed have no verdict and do not count.
        seed: seed of the simulation.
    """
    looks = sorted({count for count in seeds if count > 1})
    if not looks:
        return 0.0
    draws = min(DRAWS, NUMBERS // looks[-1])
    effects = np.random.default_rng(seed).standard_normal((draws, looks[-1]))
    excluded = np.zeros(draws, dtype=bool)
    for count in looks:
        means, errors = effects[:, :count].mean(axis=1), effects[:, :count].std(axis=1, ddof=1) / np.sqrt(count)
        excluded |= np.abs(means) > student_quantile(count - 1, (1 - LEVEL) / 2) * errors
    return float(excluded.mean())
