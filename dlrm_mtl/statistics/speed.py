"""The change of an arm's QPS against its control, from windows that were timed in turn."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from dlrm_mtl.statistics.effect import LEVEL, Effect, Interval

FEWEST_WINDOWS = 6
"""With fewer values no interval of the median reaches 95 %; with five it reaches 94 %."""


@dataclass(frozen=True)
class Change:
    """A change of QPS, in percent of the control's."""

    median: float
    """Median over windows; with several seeds, the mean of their medians."""
    interval: Interval | None
    """Interval of the median; None with one seed and fewer than six windows."""


def change_percent(control: Sequence[Sequence[float]], arm: Sequence[Sequence[float]]) -> Change:
    """The change of an arm's QPS over its control's.

    The windows of a pair share machine noise, since they are timed one after the other, and so do the windows of a
    seed. So each seed gives one number, the median over its pairs, and several seeds give Student's interval of their
    medians. One seed gives the interval of the median over its windows, taken as independent.

    Args:
        control: QPS of the control's windows, by seed; positive.
        arm: QPS of the arm, window by window.

    Raises:
        ValueError: the arm has no window; a seed has unequal numbers of windows.
    """
    counts = [[len(windows) for windows in of_seeds] for of_seeds in (control, arm)]
    if counts[0] != counts[1]:
        raise ValueError(f"windows of the control by seed: {counts[0]}, of the arm: {counts[1]}, expected the same")
    changes = [
        [100 * (mine / theirs - 1) for mine, theirs in zip(windows, baseline, strict=True)]
        for windows, baseline in zip(arm, control, strict=True)
        if windows
    ]
    if not changes:
        raise ValueError("no window, expected at least one")
    if len(changes) == 1:
        return Change(float(np.median(changes[0])), median_interval(changes[0]))
    medians = Effect.over([float(np.median(of_seed)) for of_seed in changes])
    return Change(medians.mean, medians.interval())


def median_interval(values: Sequence[float]) -> Interval | None:
    """Interval of the median of independent values of any distribution: from the k-th smallest to the k-th largest,
    with the largest k that the binomial distribution allows (Thompson 1936). None for fewer than six values."""
    if len(values) < FEWEST_WINDOWS:
        return None
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    # Of n values fewer than k lie below the median with probability P(Binomial(n, 1/2) < k).
    probabilities = special.bdtr(np.arange(len(ordered)), len(ordered), 0.5)
    beyond = int(np.searchsorted(probabilities, (1 - LEVEL) / 2))
    return Interval(float(np.median(ordered)), float(ordered[beyond - 1]), float(ordered[-beyond]))
