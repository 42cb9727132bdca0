"""QPS in comparison.json."""

from typing import Any

import pytest
from scipy import stats

from tests.reporting.comparison.comparing import BETTER, compare, ends, summary


def test_speed_of_one_seed_is_paired_window_by_window() -> None:
    windows = ([100.0] * 7, [90.0, 95.0, 110.0, 99.0, 98.0, 97.0, 96.0], [100.0] * 7)
    qps = compare([summary(0, windows)])["arms"][BETTER]["qps"]
    assert qps["windows"] == 7
    assert qps["median"] == 97
    # Of seven values the smallest and the largest are a 98 % interval of the median, the next ones one of 88 %.
    assert (qps["change_percent"]["median"], *ends(qps["change_percent"])) == pytest.approx((-3, -10, 10))


def test_few_windows_of_one_seed_have_no_interval(seeds: list[dict[str, Any]]) -> None:
    qps = compare(seeds[:1])["arms"][BETTER]["qps"]
    assert (qps["median"], qps["p10"], qps["p90"]) == pytest.approx((190, 110, 302))
    # -10, -5 and +10 percent; the change of the medians is the same by chance of the numbers, that of the means not.
    assert qps["change_percent"] == {"median": pytest.approx(-5), "low": None, "high": None}


def test_speed_of_several_seeds_has_a_median_each() -> None:
    slower = ([100.0] * 3, [50.0, 50.0, 500.0], [100.0] * 3)
    faster = ([1000.0], [900.0], [1000.0])
    qps = compare([summary(0, slower), summary(1, faster)])["arms"][BETTER]["qps"]
    assert qps["windows"] == 4
    expected = stats.t.interval(0.95, 1, -30, stats.sem([-50, -10]))
    assert (qps["change_percent"]["median"], *ends(qps["change_percent"])) == pytest.approx((-30, *expected))


def test_without_timed_windows_there_is_no_speed() -> None:
    found = compare([summary(seed, ([], [], [])) for seed in range(2)])
    assert [arm["qps"] for arm in found["arms"].values()] == [None] * 3
