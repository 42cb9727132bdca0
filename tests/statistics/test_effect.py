"""An effect's intervals, tests and power, against scipy and by simulated coverage."""

import math

import numpy as np
import pytest
from scipy import stats

from dlrm_mtl.statistics.effect import SMALLEST_P, Effect, Interval
from tests.messages import naming

DRAWS = 20_000


def ends(interval: Interval | None) -> tuple[float, float]:
    assert interval is not None
    return interval.low, interval.high


@pytest.mark.parametrize("count", [2, 3, 10])
def test_over_seeds_it_is_students(count: int) -> None:
    sample = np.random.default_rng(count).normal(3, 2, size=count)
    effect = Effect.over(sample.tolist())
    assert effect.mean == pytest.approx(sample.mean())
    expected = stats.t.interval(0.95, count - 1, loc=sample.mean(), scale=stats.sem(sample))
    assert ends(effect.interval()) == pytest.approx(expected)
    assert effect.over_seeds() == effect.interval()
    assert effect.over_rows() is None
    assert effect.p_value(2.5) == pytest.approx(stats.ttest_1samp(sample, 2.5).pvalue)
    for bound, side in ((1.0, "greater"), (5.0, "greater")):
        assert effect.p_above(bound) == pytest.approx(stats.ttest_1samp(sample, bound, alternative=side).pvalue)


def test_seeds_and_rows_are_added_in_squares() -> None:
    effect = Effect.over([1.0, 2.0, 4.0], rows_variance=0.09, row_buckets=50)
    over_seeds = stats.t.isf(0.025, 2) * np.std([1.0, 2.0, 4.0], ddof=1) / math.sqrt(3)
    over_rows = stats.t.isf(0.025, 49) * 0.3
    for interval, half in (
        (effect.over_seeds(), over_seeds),
        (effect.over_rows(), over_rows),
        (effect.interval(), math.hypot(over_seeds, over_rows)),
    ):
        assert ends(interval) == pytest.approx((7 / 3 - half, 7 / 3 + half))


@pytest.mark.parametrize("effect", [Effect.over([1.0, 2.0, 4.0], 0.09, 50), Effect.over([1.0], 0.09, 3)])
@pytest.mark.parametrize("null", [-6.0, 0.0, 1.2])
def test_the_p_value_is_that_of_the_interval_that_ends_there(effect: Effect, null: float) -> None:
    interval = effect.interval(level=1 - effect.p_value(null))
    assert null == pytest.approx(min(ends(interval), key=lambda end: abs(end - null)), abs=1e-6)


def test_what_is_known_of_no_error_is_not_judged() -> None:
    one = Effect.over([0.3])
    assert not one.has_error
    assert (one.interval(), one.over_seeds(), one.over_rows(), one.detectable()) == (None, None, None, None)
    assert one.p_value() == 1.0
    assert one.p_above(-0.05) == pytest.approx(0.5)
    # Nor is the variance over rows that are all in one bucket.
    assert not Effect.over([0.3], rows_variance=0.0, row_buckets=1).has_error


def test_equal_arms_differ_by_nothing() -> None:
    same = Effect.over([0.0, 0.0], rows_variance=0.0, row_buckets=1000)
    assert ends(same.interval()) == (0.0, 0.0)
    assert same.p_value() == 1.0
    assert same.p_within(0.05) < 1e-9
    assert same.detectable() == 0.0


def test_certain_effects_have_the_smallest_p() -> None:
    assert Effect.over([5.0], rows_variance=1e-6, row_buckets=1000).p_value() == SMALLEST_P


def test_no_value_is_refused() -> None:
    with pytest.raises(ValueError, match=naming("no value")):
        Effect.over([])


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("rows_error", [0.0, 0.5])
def test_the_interval_for_new_traffic_covers_the_truth(seeds: int, rows_error: float) -> None:
    """With seeds and rows both drawn again; somewhat above 95 % if both matter."""
    generator = np.random.default_rng(seeds)
    covered = 0
    for _ in range(4000):
        values = generator.normal(1.0 + rows_error * generator.normal(), 1.0, size=seeds)
        low, high = ends(Effect.over(values.tolist(), rows_error**2, 1000 if rows_error else 0).interval())
        covered += low <= 1.0 <= high
    assert 0.94 < covered / 4000 < 0.99


@pytest.mark.parametrize("freedom", [1, 2, 9])
def test_power_over_seeds_is_that_of_the_t_test(freedom: int) -> None:
    for true in (2.0, 4.0, 15.0):
        expected = stats.nct.sf(stats.t.isf(0.025, freedom), freedom, true)
        assert Effect(0.0, 1.0, freedom).power(true) == pytest.approx(expected, abs=2e-3)
        assert Effect(0.0, 1.0, freedom).power(-true) == Effect(0.0, 1.0, freedom).power(true)


@pytest.mark.parametrize(("freedom", "rows_error"), [(1, 3.0), (4, 0.5), (0, 1.0)])
def test_power_over_seeds_and_rows_is_how_often_zero_is_excluded(freedom: int, rows_error: float) -> None:
    effect = Effect(0.0, 1.0 if freedom else 0.0, freedom, rows_error, 999)
    true = effect.detectable()
    assert true is not None
    generator = np.random.default_rng(freedom)
    means = true + math.hypot(effect.seeds_error, rows_error) * generator.standard_normal(DRAWS)
    errors = np.sqrt(generator.chisquare(freedom, DRAWS) / freedom) if freedom else np.zeros(DRAWS)
    quantile = stats.t.isf(0.025, freedom) if freedom else 0.0
    found = (means > np.hypot(quantile * errors, stats.t.isf(0.025, 999) * rows_error)).mean()
    assert found == pytest.approx(0.8, abs=0.01)


def test_a_detectable_effect_does_not_depend_on_the_unit() -> None:
    small, large = (Effect(0.0, unit, 4, unit, 99).detectable() for unit in (1e-6, 1e3))
    assert small is not None
    assert large is not None
    assert large / small == pytest.approx(1e9)


def test_p_within_rejects_a_true_effect_at_the_bound_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    samples = generator.normal(0.05, 0.01, size=(4000, 5))
    p = np.array([Effect.over(sample.tolist()).p_within(0.05) for sample in samples])
    for level in (0.025, 0.2):
        assert (p <= level).mean() == pytest.approx(level, abs=4 * math.sqrt(level / 4000))
