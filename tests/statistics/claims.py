"""Claims of a comparison, and whether they are true."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tests.statistics.world import Drawn

Claim = Callable[[Drawn], Iterator[bool]]
"""For one comparison: whether each interval contains the truth, or whether each verdict is wrong."""


def holds(interval: Mapping[str, Any] | None, truth: float) -> bool:
    if interval is None or interval["low"] is None:
        return False
    return bool(interval["low"] <= truth <= interval["high"])


def new_traffic(metric: str, task: int = 0) -> Claim:
    """Whether the interval of a gain contains the true gain of other seeds on other rows."""

    def claim(drawn: Drawn) -> Iterator[bool]:
        for gains in _of_task(drawn, task):
            yield holds(gains[f"{metric}_gain_percent"], drawn.world.true_gain(metric, task))

    return claim


def average(drawn: Drawn) -> Iterator[bool]:
    for arm in _treatments(drawn):
        yield holds(arm["average_ne_gain_percent"], float(np.mean(drawn.world.true_gains["ne"])))


def these_rows(task: int = 0) -> Claim:
    """Whether the interval over seeds contains the true gain of other seeds on these rows."""

    def claim(drawn: Drawn) -> Iterator[bool]:
        for gains, truth in zip(_of_task(drawn, task), drawn.gains_on_these_rows[:, task], strict=True):
            yield holds(gains["ne_gain_percent"]["over_seeds"], truth)

    return claim


def these_models(task: int = 0) -> Claim:
    """Whether the interval over rows contains the true gain of these models on other rows."""

    def claim(drawn: Drawn) -> Iterator[bool]:
        for gains, truth in zip(_of_task(drawn, task), drawn.gains_of_these_models[:, task], strict=True):
            yield holds(gains["ne_gain_percent"]["over_rows"], truth)

    return claim


def seeds_for_new_traffic(task: int = 0) -> Claim:
    """Whether the interval over seeds, misread as one for new traffic, contains the true gain on other rows."""

    def claim(drawn: Drawn) -> Iterator[bool]:
        for gains in _of_task(drawn, task):
            yield holds(gains["ne_gain_percent"]["over_seeds"], drawn.world.true_gain("ne", task))

    return claim


def calibration(task: int = 0) -> Claim:
    """Whether the interval of each model's calibration contains its calibration on other rows."""

    def claim(drawn: Drawn) -> Iterator[bool]:
        for name, arm in drawn.comparison["arms"].items():
            by_seed = arm["tasks"][f"task{task}"]["calibration_by_seed"]
            for interval, truth in zip(by_seed, drawn.calibrations[name][:, task], strict=True):
                yield holds(interval, truth)

    return claim


def segments(drawn: Drawn) -> Iterator[bool]:
    for arm in _treatments(drawn):
        for values in arm["segments"].values():
            for value in values.values():
                yield holds(value["tasks"]["task0"]["ne_gain_percent"], drawn.world.true_gain("ne", 0))


def qps(drawn: Drawn) -> Iterator[bool]:
    for arm in _treatments(drawn):
        yield holds(arm["qps"]["change_percent"], drawn.world.qps_change)


def any_verdict(*verdicts: str) -> Claim:
    """Whether any arm has one of these verdicts on any task."""

    def claim(drawn: Drawn) -> Iterator[bool]:
        yield any(
            task["ne_gain_percent"]["verdict"] in verdicts
            for arm in _treatments(drawn)
            for task in arm["tasks"].values()
        )

    return claim


def any_average_verdict(*verdicts: str) -> Claim:
    def claim(drawn: Drawn) -> Iterator[bool]:
        yield any(arm["average_ne_gain_percent"]["verdict"] in verdicts for arm in _treatments(drawn))

    return claim


def any_interval_above_zero(drawn: Drawn) -> Iterator[bool]:
    """Whether any interval lies above 0, without correction for many."""
    yield any(task["ne_gain_percent"]["low"] > 0 for arm in _treatments(drawn) for task in arm["tasks"].values())


def within_chance(drawn: Drawn) -> Iterator[bool]:
    """Whether the number of intervals that exclude 0 lies in the range for chance."""
    chance = drawn.comparison["chance_range"]
    yield chance["low"] <= chance["exclude_zero"] <= chance["high"]


def loses_nothing(drawn: Drawn) -> Iterator[bool]:
    for arm in _treatments(drawn):
        yield bool(arm["loses_nothing"])


def verdict(*verdicts: str, task: int = 0) -> Claim:
    def claim(drawn: Drawn) -> Iterator[bool]:
        for gains in _of_task(drawn, task):
            yield gains["ne_gain_percent"]["verdict"] in verdicts

    return claim


def _treatments(drawn: Drawn) -> list[Mapping[str, Any]]:
    return [arm for name, arm in drawn.comparison["arms"].items() if name != drawn.comparison["control"]]


def _of_task(drawn: Drawn, task: int) -> list[Mapping[str, Any]]:
    return [arm["tasks"][f"task{task}"] for arm in _treatments(drawn)]
