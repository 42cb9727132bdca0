"""How many seeds and rows an effect needs."""

import math

import numpy as np
import pytest
from scipy import stats

from dlrm_mtl.statistics.power import LEAST_TIMES, Noise, fewest_rows, rows_needed, seeds_needed
from tests.messages import naming


@pytest.mark.parametrize(("spread", "effect"), [(0.0673, 0.05), (0.183, 0.05), (0.02, 0.05), (1.0, 4.0)])
def test_seeds_on_the_same_rows_are_those_of_the_t_test(spread: float, effect: float) -> None:
    def power(seeds: int) -> float:
        return float(stats.nct.sf(stats.t.isf(0.025, seeds - 1), seeds - 1, math.sqrt(seeds) * effect / spread))

    expected = next(seeds for seeds in range(2, 1000) if power(seeds) >= 0.8)
    assert seeds_needed(Noise(spread), effect) == expected
    assert seeds_needed(Noise(spread), -effect) == expected


def test_rows_that_hide_an_effect_hide_it_from_any_number_of_seeds() -> None:
    noise = Noise(seed=0.1, shared_rows=0.1)
    assert seeds_needed(noise, 0.05) is None
    times = fewest_rows(noise, 0.05)
    assert times == pytest.approx((2 * (1.959964 + 0.841621)) ** 2, rel=1e-5)
    for more in (1.02, 2.0):
        on_more_rows = Noise(0.1, 0.1 / math.sqrt(more * times))
        assert seeds_needed(on_more_rows, 0.05) is not None
    assert seeds_needed(Noise(0.1, 0.1 / math.sqrt(0.98 * times)), 0.05) is None


def test_the_rows_that_are_needed_are_enough_and_not_too_many() -> None:
    noise = Noise(seed=0.02, shared_rows=0.1, own_rows=0.05)
    times = rows_needed(noise, 0.05, seeds=5)
    assert times is not None
    assert noise.effect(5, times).power(0.05) == pytest.approx(0.8, abs=1e-4)
    assert noise.effect(5, 0.9 * times).power(0.05) < 0.79


def test_seeds_that_spread_too_much_are_not_made_up_for_by_rows() -> None:
    assert rows_needed(Noise(seed=0.1, shared_rows=0.1), 0.05, seeds=5) is None
    assert rows_needed(Noise(seed=0.1, shared_rows=0.1), 0.05, seeds=50) is not None
    assert rows_needed(Noise(seed=0.0), 0.05, seeds=2) == LEAST_TIMES


def test_noise_is_taken_apart() -> None:
    """Of seeds that see the same rows: what they have in common of the rows, what each has of its own, and the rest."""
    generator = np.random.default_rng(0)
    true = Noise(seed=0.3, shared_rows=0.2, own_rows=0.1)
    measured = []
    for _ in range(400):
        values = generator.normal(0, true.over_seeds, size=5) + generator.normal(0, 0.2)
        variances = generator.normal(0.05, 0.002, size=5)
        measured.append(Noise.measured(values.tolist(), variances.tolist(), 0.04 + 0.01 / 5))
    for part in ("seed", "shared_rows", "own_rows"):
        mean_square = np.mean([getattr(noise, part) ** 2 for noise in measured])
        assert math.sqrt(mean_square) == pytest.approx(getattr(true, part), rel=0.05)


def test_without_variances_of_rows_it_is_the_spread_over_seeds() -> None:
    measured = Noise.measured([1.0, 2.0, 4.0])
    assert measured == Noise(measured.over_seeds)
    assert measured.over_seeds == pytest.approx(np.std([1.0, 2.0, 4.0], ddof=1))
    with pytest.raises(ValueError, match=naming("1 seeds")):
        Noise.measured([1.0])


@pytest.mark.parametrize(("seeds", "times"), [(3, 1.0), (10, 4.0)])
def test_errors_to_be_expected_are_those_of_a_simulation(seeds: int, times: float) -> None:
    noise, generator = Noise(seed=0.3, shared_rows=0.2, own_rows=0.1), np.random.default_rng(1)
    rows = 1 / math.sqrt(times)
    shared = generator.normal(0, 0.2 * rows, size=(20_000, 1))
    values = shared + generator.normal(0, math.hypot(0.3, 0.1 * rows), size=(20_000, seeds))
    effect = noise.effect(seeds, times)
    assert effect.seeds_error == pytest.approx(np.sqrt(values.var(axis=1, ddof=1).mean() / seeds), rel=0.02)
    # The seeds' own part of the rows is in both errors.
    assert math.hypot(effect.seeds_error, effect.rows_error) >= values.mean(axis=1).std()
    assert effect.seeds_freedom == seeds - 1
