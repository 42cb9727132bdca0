"""Intervals: against scipy, and by how often they hold what they should."""

import numpy as np
import pytest
from scipy import stats

from dlrm_mtl.reporting.seed_summary import paired_bootstrap
from dlrm_mtl.reporting.statistics import Interval, median_interval, t_interval
from tests.reporting.results import row_sums, simulate, sums_of


@pytest.mark.parametrize("count", [2, 3, 10])
def test_t_interval_is_scipys(count: int) -> None:
    sample = np.random.default_rng(count).normal(3, 2, size=count)
    found = t_interval(sample.tolist())
    low, high = stats.t.interval(0.95, count - 1, loc=sample.mean(), scale=stats.sem(sample))
    assert found.center == pytest.approx(sample.mean())
    assert (found.low, found.high) == pytest.approx((low, high))


def test_t_interval_covers_the_mean() -> None:
    rng = np.random.default_rng(0)
    intervals = [t_interval(rng.normal(5, 3, size=3).tolist()) for _ in range(2000)]
    covered = np.mean([interval.low <= 5 <= interval.high for interval in intervals])
    assert 0.935 < covered < 0.965


@pytest.mark.parametrize("values", [[], [1.0]])
def test_t_interval_needs_two_values(values: list[float]) -> None:
    with pytest.raises(ValueError, match=f"{len(values)} values, expected at least two"):
        t_interval(values)


def test_median_interval() -> None:
    sample = np.random.default_rng(1).normal(2, 1, size=101)
    found = median_interval(sample.tolist())
    assert found.center == np.median(sample)
    # Between the order statistics of the exact binomial interval, give or take a few.
    ordered = np.sort(sample)
    first, last = (int(value) for value in stats.binom.ppf([0.025, 0.975], 101, 0.5))
    assert ordered[first - 3] <= found.low <= ordered[first + 3]
    assert ordered[last - 3] <= found.high <= ordered[last + 3]
    assert found == median_interval(sample.tolist())


def test_median_interval_ignores_an_outlier() -> None:
    values = [0.9, 1.0, 1.1, 1.2, 1.0, 0.95, 1.05, 1.0, 1e6]
    found = median_interval(values)
    assert found.center == 1.0
    assert 0.9 <= found.low <= 1.0 <= found.high <= 1.2


def test_median_interval_of_one_value() -> None:
    assert median_interval([3.0]) == Interval(3.0, 3.0, 3.0)


def test_identical_arms_gain_nothing() -> None:
    [predictions] = simulate(2000, [0.5])
    sums = sums_of(predictions).sums.numpy()
    tasks, average = paired_bootstrap(sums, sums.copy())
    assert tasks == [Interval(0, 0, 0)] * 2
    assert average == Interval(0, 0, 0)


def test_the_gain_is_the_difference_of_ne_and_positive_is_better() -> None:
    control, better = (sums_of(predictions) for predictions in simulate(20_000, [1.0, 0.2]))
    tasks, average = paired_bootstrap(control.sums.numpy(), better.sums.numpy())
    gains = [
        100 * (float(c.ne or 0) - float(a.ne or 0)) for c, a in zip(control.compute(), better.compute(), strict=True)
    ]
    assert [task.center for task in tasks] == pytest.approx(gains)
    assert average.center == pytest.approx(np.mean(gains))
    assert all(gain > 1 for gain in gains)
    for interval in (*tasks, average):
        assert 0 < interval.low < interval.center < interval.high
    worse, _ = paired_bootstrap(better.sums.numpy(), control.sums.numpy())
    assert [task.center for task in worse] == pytest.approx([-gain for gain in gains])
    assert all(task.high < 0 for task in worse)


def test_seeds_of_the_bootstrap() -> None:
    control, arm = (sums_of(predictions).sums.numpy() for predictions in simulate(2000, [0.5, 0.4]))
    assert paired_bootstrap(control, arm, 1) == paired_bootstrap(control, arm, 1)
    assert paired_bootstrap(control, arm, 1) != paired_bootstrap(control, arm, 2)


@pytest.mark.parametrize("rows", [800, 3000])
def test_buckets_are_as_good_as_rows(rows: int) -> None:
    """Whether a bucket holds less than a row on average, or several: the same interval, give or take chance."""
    control, arm = simulate(rows, [0.6, 0.4], shift=-2.0)
    by_bucket, average = paired_bootstrap(sums_of(control).sums.numpy(), sums_of(arm).sums.numpy())
    by_row, row_average = paired_bootstrap(row_sums(control), row_sums(arm))
    for bucket, row in zip((*by_bucket, average), (*by_row, row_average), strict=True):
        assert bucket.center == pytest.approx(row.center, rel=1e-5)
        assert (bucket.high - bucket.low) == pytest.approx(row.high - row.low, rel=0.15)


def test_the_interval_covers_the_true_gain() -> None:
    """As often as it should, and with the width that the spread of estimates asks for."""
    control, arm = simulate(400_000, [0.6, 0.4], seed=100, shift=0.0)
    truth, true_average = paired_bootstrap(sums_of(control, 300).sums.numpy(), sums_of(arm, 300).sums.numpy())
    true_gains = np.array([interval.center for interval in (*truth, true_average)])
    found = []
    for seed in range(40):
        left, right = (sums_of(p, 300).sums.numpy() for p in simulate(1500, [0.6, 0.4], seed, shift=0.0))
        tasks, average = paired_bootstrap(left, right, seed)
        found.append([(interval.center, interval.low, interval.high) for interval in (*tasks, average)])
    center, low, high = np.moveaxis(np.array(found), 2, 0)  # (40, 3) each
    assert 0.86 < ((low <= true_gains) & (true_gains <= high)).mean() < 0.995
    spread = np.sqrt(((center - true_gains) ** 2).mean(axis=0))
    np.testing.assert_allclose((high - low).mean(axis=0) / (2 * 1.96), spread, rtol=0.25)


def test_a_pairing_is_narrower_than_none() -> None:
    """The same rows are drawn for both arms: what is easy for both cancels."""
    control, arm = simulate(4000, [0.2, 0.19])
    [paired, _], _ = paired_bootstrap(sums_of(control).sums.numpy(), sums_of(arm).sums.numpy())
    shuffled = sums_of(arm).sums.numpy()[np.random.default_rng(0).permutation(1000)]
    [unpaired, _], _ = paired_bootstrap(sums_of(control).sums.numpy(), shuffled)
    assert paired.high - paired.low < 0.5 * (unpaired.high - unpaired.low)


def test_resamples_without_a_positive_are_left_out() -> None:
    """Of a task with one positive, a third of the resamples have none."""
    control, arm = simulate(500, [0.5, 0.4])
    for predictions in (control, arm):
        predictions.labels[:, 1] = 0
        predictions.labels[7, 1] = 1
    tasks, average = paired_bootstrap(sums_of(control).sums.numpy(), sums_of(arm).sums.numpy())
    for interval in (*tasks, average):
        assert np.isfinite([interval.center, interval.low, interval.high]).all()
        assert interval.low < interval.high
