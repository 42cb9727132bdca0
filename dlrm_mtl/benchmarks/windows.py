"""Windows of contenders that take turns, so that the machine's noise affects all alike. Free of torch."""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

Contender = Callable[[], int]
"""Does one unit of work; returns the number of rows handled."""

Result = TypeVar("Result")
Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Spread:
    """Values over windows."""

    median: float
    p10: float
    p90: float
    windows: list[float]
    """The values in order of time."""

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        p10, median, p90 = (float(value) for value in np.percentile(values, [10, 50, 90]))
        return cls(median, p10, p90, list(values))

    def over(self, other: "Spread") -> "Spread":
        """Ratios to another contender, window by window."""
        return Spread.of([mine / theirs for mine, theirs in zip(self.windows, other.windows, strict=True)])

    def minus(self, other: "Spread") -> "Spread":
        """Differences to another contender, window by window."""
        return Spread.of([mine - theirs for mine, theirs in zip(self.windows, other.windows, strict=True)])


def format_spread(spread: Mapping[str, Any], form: str) -> str:
    """Median, P10 and P90 as three columns of a table; the format gives their width."""
    return " ".join(f"{spread[key]:{form}}" for key in ("median", "p10", "p90"))


def take_turns(windows: Mapping[Name, Callable[[], Result]], count: int) -> dict[Name, list[Result]]:
    """Runs ``count`` windows of each contender, after one that is not counted.

    Returns:
        the results of each contender's windows; those with the same index ran side by side.
    """
    results: dict[Name, list[Result]] = {name: [] for name in windows}
    turns = list(windows)
    for _ in range(count + 1):
        for name in turns:
            results[name].append(windows[name]())
        # Each goes first as often as last, so that what a turn leaves in caches favours none.
        turns.reverse()
    return {name: values[1:] for name, values in results.items()}


def compare_rates(
    contenders: Mapping[str, Contender],
    windows: int,
    seconds: float,
    synchronize: Callable[[], None],
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Spread]:
    """Rows per second of each contender, in windows of equal length that take turns.

    Args:
        seconds: length of a window; its last unit of work may end later.
        synchronize: waits until all submitted work is done.
    """
    turns = {name: partial(_rate, contender, seconds, synchronize, clock) for name, contender in contenders.items()}
    return {name: Spread.of(rates) for name, rates in take_turns(turns, windows).items()}


def compare_collective_rates(
    contenders: Mapping[str, Contender],
    windows: int,
    seconds: float,
    synchronize: Callable[[], None],
    share: Callable[[int], int],
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Spread]:
    """As :func:`compare_rates`, for collective work: all windows of a contender have the same number of units, chosen
    by the first rank's clock. Collective.

    Args:
        share: returns the first rank's value on every rank.
    """

    def window(contender: Contender, units: int) -> tuple[int, float]:
        synchronize()
        start = clock()
        rows = sum(contender() for _ in range(units))
        synchronize()
        return rows, clock() - start

    def rate(contender: Contender, units: int) -> float:
        rows, passed = window(contender, units)
        return rows / passed

    turns = {}
    for name, contender in contenders.items():
        window(contender, 1)  # the first one takes longer
        units = share(max(1, round(seconds / window(contender, 1)[1])))
        turns[name] = partial(rate, contender, units)
    return {name: Spread.of(rates) for name, rates in take_turns(turns, windows).items()}


def _rate(contender: Contender, seconds: float, synchronize: Callable[[], None], clock: Callable[[], float]) -> float:
    synchronize()
    start, rows = clock(), 0
    while clock() < start + seconds:
        rows += contender()
    synchronize()
    return rows / (clock() - start)
