"""Rates in windows that take turns, so that the machine's noise meets all contenders alike. Free of torch."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Contender = Callable[[], int]
"""Does one unit of work; returns the rows that it handled."""


@dataclass(frozen=True)
class Spread:
    """Values over windows."""

    median: float
    p10: float
    p90: float
    windows: list[float]
    """The values, in order of time."""

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        p10, median, p90 = (float(value) for value in np.percentile(values, [10, 50, 90]))
        return cls(median, p10, p90, list(values))

    def over(self, other: "Spread") -> "Spread":
        """Ratios to another contender, window by window."""
        return Spread.of([mine / theirs for mine, theirs in zip(self.windows, other.windows, strict=True)])


def take_turns(
    contenders: Mapping[str, Contender],
    windows: int,
    seconds: float,
    synchronize: Callable[[], None],
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Spread]:
    """Rows per second of each contender, over ``windows`` windows after one that is not counted.

    Args:
        seconds: length of a window; its last unit of work ends after it.
        synchronize: waits until all work given out so far is done.
    """
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    turns = list(contenders)
    for _ in range(windows + 1):
        for name in turns:
            rates[name].append(_rate(contenders[name], seconds, synchronize, clock))
        # Each goes first as often as last: what a turn leaves behind in caches favours none.
        turns.reverse()
    return {name: Spread.of(values[1:]) for name, values in rates.items()}


def _rate(contender: Contender, seconds: float, synchronize: Callable[[], None], clock: Callable[[], float]) -> float:
    synchronize()
    start, rows = clock(), 0
    while clock() < start + seconds:
        rows += contender()
    synchronize()
    return rows / (clock() - start)
