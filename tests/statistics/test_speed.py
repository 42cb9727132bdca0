"""Changes of QPS."""

import numpy as np
import pytest
from scipy import stats

from dlrm_mtl.statistics.effect import Interval
from dlrm_mtl.statistics.speed import change_percent, median_interval


@pytest.mark.parametrize("count", [6, 7, 9, 20, 101])
def test_the_median_lies_between_what_the_binomial_distribution_says(count: int) -> None:
    sample = np.random.default_rng(count).normal(2, 1, size=count)
    interval = median_interval(sample.tolist())
    assert interval is not None
    assert interval.center == np.median(sample)
    assert interval == median_interval(sample[::-1].tolist())
    ordered = np.sort(sample).tolist()
    rank = ordered.index(interval.low)
    assert interval.high == ordered[count - 1 - rank]
    # Fewer than rank + 1 values lie below the true median, or above it, with this probability; one more is too much.
    assert 2 * stats.binom.cdf(rank, count, 0.5) <= 0.05 < 2 * stats.binom.cdf(rank + 1, count, 0.5)


def test_five_windows_have_no_interval() -> None:
    assert median_interval([1.0] * 5) is None
    change = change_percent([[100.0] * 5], [[90.0] * 5])
    assert change.median == pytest.approx(-10)
    assert change.interval is None


def test_one_seed_is_judged_by_its_windows() -> None:
    control = np.array([100.0, 200, 100, 300, 100, 200, 50])
    change = change_percent([control.tolist()], [(control * [0.9, 0.95, 0.97, 0.8, 1.3, 0.96, 1.0]).tolist()])
    assert change.median == pytest.approx(-4)
    assert change.interval is not None
    assert [change.interval.low, change.interval.high] == pytest.approx([-20, 30])


def test_several_seeds_are_judged_by_their_medians() -> None:
    control = [[100.0, 100, 100], [200.0, 200], [50.0]]
    change = change_percent(control, [[98.0, 97, 10], [190.0, 194], [48.0]])
    medians = [-3.0, -4.0, -4.0]
    low, high = stats.t.interval(0.95, 2, loc=np.mean(medians), scale=stats.sem(medians))
    assert change.median == pytest.approx(np.mean(medians))
    assert change.interval is not None
    assert [change.interval.low, change.interval.high] == pytest.approx([low, high])


def test_seeds_without_windows_tell_nothing() -> None:
    control, arm = [float(n) for n in range(1, 8)], [2.0 * n for n in range(1, 8)]
    assert change_percent([control, []], [arm, []]) == change_percent([control], [arm])


@pytest.mark.parametrize(
    ("control", "arm", "message"),
    [
        ([], [], "no window, expected at least one"),
        ([[]], [[]], "no window, expected at least one"),
        ([[1.0, 1.0]], [[1.0]], r"of the control by seed: \[2\], of the arm: \[1\], expected the same"),
        ([[1.0]], [], r"of the control by seed: \[1\], of the arm: \[\], expected the same"),
    ],
)
def test_what_has_no_pair_is_refused(control: list[list[float]], arm: list[list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        change_percent(control, arm)


@pytest.mark.parametrize("windows", [6, 20])
def test_the_median_is_covered_whatever_the_distribution(windows: int) -> None:
    samples = np.random.default_rng(0).exponential(size=(2000, windows))
    intervals = [median_interval(sample.tolist()) for sample in samples]
    covered = np.mean([i.low <= np.log(2) <= i.high for i in intervals if isinstance(i, Interval)])
    assert 0.945 < covered < 0.98


def test_noise_of_a_whole_seed_is_covered_by_seeds_and_not_by_windows() -> None:
    """Windows of one seed share noise: pooled over seeds, their median would look too certain."""
    generator = np.random.default_rng(0)
    pooled = covered = 0
    for _ in range(500):
        arm = 100 * (1 + 0.02 * generator.standard_normal((5, 1)) + 0.01 * generator.standard_normal((5, 20)))
        interval = change_percent(np.full((5, 20), 100.0).tolist(), arm.tolist()).interval
        assert interval is not None
        covered += interval.low <= 0 <= interval.high
        over_windows = median_interval((arm - 100).ravel().tolist())
        assert over_windows is not None
        pooled += over_windows.low <= 0 <= over_windows.high
    assert covered > 0.93 * 500
    assert pooled < 0.6 * 500
