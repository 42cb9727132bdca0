"""The range for chance, against plain simulations of comparisons."""

import math
import time

import numpy as np
import pytest
from scipy import stats

from dlrm_mtl.statistics.chance import Chance, by_chance
from dlrm_mtl.statistics.effect import Effect


def effects(arms: int, tasks: int, seeds: int, seeds_error: float = 1.0, rows_error: float = 0.0) -> list[list[Effect]]:
    one = Effect(0.0, seeds_error, seeds - 1, rows_error, 999 if rows_error else 0)
    return [[one] * arms] * tasks


def test_one_interval_excludes_zero_in_one_of_twenty() -> None:
    for family in (effects(1, 1, 3), effects(1, 1, 1, 0.0, 0.2)):
        chance = by_chance(family)
        assert (chance.intervals, chance.low) == (1, 0)
        assert chance.at_least_one == pytest.approx(0.05, abs=0.008)


@pytest.mark.parametrize(("seeds", "rows_error"), [(2, 0.0), (5, 0.0), (5, 0.5)])
def test_sixteen_arms_and_five_tasks(seeds: int, rows_error: float) -> None:
    """Against a loop over whole comparisons, with the product's own intervals."""
    generator = np.random.default_rng(seeds)
    counts = []
    for _ in range(150):
        models = generator.standard_normal((17, 5, seeds)) * math.sqrt(seeds / 2)
        models += rows_error * math.sqrt(0.5) * generator.standard_normal((17, 5, 1))
        gains = (models[0] - models[1:]).reshape(80, seeds)
        intervals = [Effect.over(gain.tolist(), rows_error**2, 1000 if rows_error else 0).interval() for gain in gains]
        counts.append(sum(i is not None and (i.low > 0 or i.high < 0) for i in intervals))
    chance = by_chance(effects(16, 5, seeds, 1.0, rows_error))
    assert chance.intervals == 80
    assert np.mean(np.array(counts) > 0) == pytest.approx(chance.at_least_one, abs=0.08)
    within = np.mean([chance.low <= count <= chance.high for count in counts])
    assert within > 0.92
    assert chance.high == pytest.approx(np.quantile(counts, 0.975), abs=4)


def test_a_shared_control_widens_the_range() -> None:
    low, high = stats.binom.ppf([0.025, 0.975], 80, 0.05)
    chance = by_chance(effects(16, 5, 5))
    assert chance.low < low
    assert chance.high > high


def test_arms_differ_in_seeds_and_tasks_in_scale() -> None:
    family = [Effect(0.0, 1.0, 4), Effect(0.0, 1.0, 1), Effect(0.0), Effect(0.0, 0.0, 0, 0.3, 50)]
    tiny = [Effect(0.0, 1e-9, 4, 1e-9, 50)] * 4
    chance = by_chance([family, tiny, []])
    assert chance.intervals == 3 + 4
    assert 0.05 < chance.at_least_one < 0.35


def test_equal_arms_and_no_arms_exclude_nothing() -> None:
    assert by_chance(effects(3, 2, 2, 0.0)) == Chance(6, 0, 0, 0.0)
    assert by_chance([]) == Chance(0, 0, 0, 0.0)


def test_it_is_seeded_and_quick() -> None:
    start = time.monotonic()
    first = by_chance(effects(40, 10, 20, 1.0, 0.5))
    assert time.monotonic() - start < 2  # 0.1 s on a machine that does nothing else
    assert first == by_chance(effects(40, 10, 20, 1.0, 0.5))
    assert first != by_chance(effects(40, 10, 20, 1.0, 0.5), seed=1)
