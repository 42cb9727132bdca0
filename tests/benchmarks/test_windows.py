"""Turns and statistics of a benchmark's windows."""

import statistics
from dataclasses import asdict
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlrm_mtl.benchmarks.markdown import with_interval
from dlrm_mtl.benchmarks.windows import Contender, Spread, compare_collective_rates, compare_rates, take_turns

RATES = st.floats(1e-3, 1e9)


class FakeMachine:
    """A clock that advances only when work is done or finished."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def contender(self, name: str, rows: int, *seconds: float) -> Contender:
        """Units of work of some rows; their durations repeat."""
        done = 0

        def work() -> int:
            nonlocal done
            self.now += seconds[done % len(seconds)]
            done += 1
            self.calls.append(name)
            return rows

        return work

    def synchronize(self) -> None:
        self.calls.append("|")

    def compare_rates(self, contenders: dict[str, Contender], windows: int, seconds: float) -> dict[str, Spread]:
        return compare_rates(contenders, windows, seconds, self.synchronize, lambda: self.now)


def test_contenders_take_turns_and_the_first_alternates() -> None:
    machine = FakeMachine()
    contenders = {"a": machine.contender("a", 10, 0.5), "b": machine.contender("b", 20, 1.0)}
    rates = machine.compare_rates(contenders, windows=2, seconds=1.0)
    assert "".join(machine.calls).split("||") == ["|aa", "b", "b", "aa", "aa", "b|"]
    assert rates["a"].windows == [20, 20]
    assert rates["b"].windows == [20, 20]


def test_windows_of_any_result_take_turns() -> None:
    order = []

    def window(name: str) -> int:
        order.append(name)
        return len(order)

    results = take_turns({name: partial(window, name) for name in "ab"}, count=3)
    assert "".join(order) == "abbaabba"
    assert results == {"a": [4, 5, 8], "b": [3, 6, 7]}


def test_the_first_window_does_not_count() -> None:
    machine = FakeMachine()
    rates = machine.compare_rates({"a": machine.contender("a", 6, 2.0, 1.0, 1.5)}, windows=2, seconds=0.5)
    assert rates["a"].windows == [6, 4]


def test_a_window_ends_with_whole_work() -> None:
    machine = FakeMachine()
    rates = machine.compare_rates({"a": machine.contender("a", 3, 0.75)}, windows=1, seconds=1.0)
    assert rates["a"].windows == [6 / 1.5]


def test_work_that_is_finished_late_belongs_to_its_window() -> None:
    machine = FakeMachine()
    queued = 0

    def work() -> int:
        nonlocal queued
        machine.now += 0.25
        queued += 1
        return 8

    def synchronize() -> None:
        nonlocal queued
        machine.now += 0.5 * queued
        queued = 0

    rates = compare_rates({"a": work}, 1, 1.0, synchronize, lambda: machine.now)
    assert rates["a"].windows == [4 * 8 / 3]


def test_work_of_all_ranks_has_the_first_ranks_number_of_units() -> None:
    machine = FakeMachine()
    asked: list[int] = []

    def share(units: int) -> int:
        asked.append(units)
        return 3

    contenders = {"a": machine.contender("a", 10, 0.5), "b": machine.contender("b", 20, 4.0)}
    rates = compare_collective_rates(contenders, 2, 1.0, machine.synchronize, share, lambda: machine.now)
    assert asked == [2, 1]
    assert "".join(machine.calls) == "|a||a||b||b||aaa||bbb||bbb||aaa||aaa||bbb|"
    assert rates["a"].windows == [20, 20]
    assert rates["b"].windows == [5, 5]


@given(st.lists(RATES, min_size=2, max_size=30))
def test_spread_is_that_of_the_sorted_values(values: list[float]) -> None:
    spread = Spread.of(values)
    deciles = statistics.quantiles(values, n=10, method="inclusive")
    assert spread.median == pytest.approx(statistics.median(values))
    assert spread.p10 == pytest.approx(deciles[0])
    assert spread.p90 == pytest.approx(deciles[-1])
    assert spread.windows == values


def test_one_window_is_its_own_spread() -> None:
    assert Spread.of([3.0]) == Spread(3.0, 3.0, 3.0, [3.0])


@given(st.lists(st.tuples(RATES, st.floats(0.5, 2.0)), min_size=1, max_size=30), st.floats(0.1, 10))
def test_ratios_are_paired(rates: list[tuple[float, float]], speed: float) -> None:
    """Noise common to both contenders of a window cancels."""
    mine = Spread.of([speed * rate for rate, _ in rates])
    theirs = Spread.of([rate for rate, _ in rates])
    ratio = mine.over(theirs)
    assert [ratio.median, ratio.p10, ratio.p90] == pytest.approx(3 * [speed])
    noisy = Spread.of([rate * noise for rate, noise in rates])
    assert noisy.over(theirs).median == pytest.approx(float(np.median([noise for _, noise in rates])))


def test_differences_are_paired() -> None:
    assert Spread.of([5.0, 10.0, 90.0]).minus(Spread.of([4.0, 8.0, 87.0])) == Spread.of([1.0, 2.0, 3.0])


def test_a_ratio_is_shown_with_the_interval_of_its_median() -> None:
    """Of eight values the least and the largest hold the true median with a probability of 1 - 2 / 2^8."""
    ratio = Spread.of([4.0, 1.0, 3.0, 2.0, 5.0, 6.0, 8.0, 7.0])
    assert with_interval(asdict(ratio)) == "4.50 [1.00, 8.00]"
    assert with_interval(asdict(Spread.of(ratio.windows[:6])), ".1f") == "3.5 [1.0, 6.0]"


@pytest.mark.parametrize(
    ("values", "text"), [([2.0], "2.00 (1 window)"), ([1.0, 2.0, 3.0, 4.0, 5.0], "3.00 (5 windows)")]
)
def test_of_fewer_than_six_windows_a_ratio_has_no_interval(values: list[float], text: str) -> None:
    assert with_interval(asdict(Spread.of(values))) == text


def test_unpaired_windows_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        Spread.of([1.0, 2.0]).over(Spread.of([1.0]))
    with pytest.raises(ValueError, match="zip"):
        Spread.of([1.0, 2.0]).minus(Spread.of([1.0]))
