"""What it does to an interval that seeds are added once it was seen."""

from collections.abc import Sequence

import numpy as np

from dlrm_mtl.statistics.effect import LEVEL, student_quantile

DRAWS = 100_000
NUMBERS = 4_000_000
"""Of a simulation at most."""


def error_of_looks(seeds: Sequence[int], seed: int = 0) -> float:
    """How often Student's interval over seeds excludes 0 at one look at least, of an arm that is no better or worse
    than its control; at a single look in 5 %. Rows are the same at every look: the more of the interval is their error,
    the less looks add. With many values it is 8.3 % at two equal looks, 14.2 % at five (Armitage, McPherson and Rowe
    1969).

    Args:
        seeds: how many there were at each look; looks at one seed have no verdict, and do not count.
        seed: of the simulation.
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
