"""Verdicts on many effects at once."""

import numpy as np
import pytest
from scipy import stats

from dlrm_mtl.statistics.effect import Effect
from dlrm_mtl.statistics.families import holm, judge, lose_nothing


def certain(mean: float, error: float = 0.001) -> Effect:
    return Effect(mean, error, 9)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_each_verdict() -> None:
    effects = {
        "gain": certain(0.3),
        "loss": certain(-0.3),
        "equivalent": certain(0.0),
        "inconclusive": Effect(0.0, 0.2, 9),
        "certain but small": certain(0.02),
        "one seed": Effect(0.3),
    }
    assert list(judge(effects).values()) == [
        *("gain", "loss", "equivalent", "inconclusive", "equivalent", "inconclusive"),
    ]


def test_an_effect_alone_is_judged_by_its_interval() -> None:
    generator = np.random.default_rng(0)
    seen = set()
    for _ in range(300):
        effect = Effect.over(generator.normal(generator.normal(0, 0.1), 0.03, size=4).tolist())
        interval = effect.interval()
        assert interval is not None
        [verdict] = judge({"": effect}).values()
        seen.add(verdict)
        if interval.low > -0.05 and interval.high < 0.05:
            assert verdict == "equivalent"
        elif interval.low > 0:
            assert verdict == "gain"
        elif interval.high < 0:
            assert verdict == "loss"
        else:
            assert verdict == "inconclusive"
        assert lose_nothing({"": [effect]}) == {"": interval.low > -0.05}
    assert seen == {"gain", "loss", "equivalent", "inconclusive"}


def test_more_arms_ask_for_more() -> None:
    effect = Effect(0.3, 0.1, 9)
    assert effect.p_value() < 0.05
    assert judge({"a": effect})["a"] == "gain"
    assert judge({name: Effect(0.0, 0.1, 9) for name in "bcdefghi"} | {"a": effect})["a"] == "inconclusive"


def test_no_task_may_lose() -> None:
    arms = {"good": [certain(0.0), certain(0.2)], "bad": [certain(0.3), certain(-0.1)], "unknown": [Effect(0.3)]}
    assert lose_nothing(arms) == {"good": True, "bad": False, "unknown": False}


def test_a_family_without_an_effect_is_judged_wrong_in_one_of_twenty() -> None:
    """16 arms and 5 tasks with a shared control; without correction most comparisons would show a gain."""
    seeds = 5
    generator = np.random.default_rng(0)
    quantile = stats.t.isf(0.025, seeds - 1)
    alone = together = 0
    for _ in range(100):
        control, arms = generator.standard_normal((5, 1, seeds)), generator.standard_normal((5, 16, seeds))
        gains = (control - arms).reshape(80, seeds)
        effects = {index: Effect.over(gain.tolist()) for index, gain in enumerate(gains)}
        alone += any(effect.mean > quantile * effect.seeds_error for effect in effects.values())
        together += "gain" in judge(effects).values()
    assert alone > 0.6 * 100
    assert together <= 0.08 * 100
