"""Verdicts in comparison.json."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from dlrm_mtl.reporting.effects.gains import gains_of_seed
from dlrm_mtl.reporting.seed_summary import summarize_seed
from tests.reporting.comparison.comparing import compare, ends
from tests.reporting.results import TASKS, arm_result, simulate
from tests.reporting.runs import summarized


def test_an_arm_that_predicts_what_the_control_does_is_equivalent() -> None:
    seeds, gains = [], {}
    for seed in range(2):
        [predictions] = simulate(2000, [0.5], models=seed)
        arms = {name: arm_result(predictions, []) for name in ("mean", "same")}
        seeds.append(summarize_seed(seed, TASKS, arms))
        gains[seed] = gains_of_seed({name: result.evaluation for name, result in arms.items()}, "mean")
    found = compare(seeds, gains=gains)["arms"]["same"]
    assert found["loses_nothing"] is True
    for gain in (found["average_ne_gain_percent"], *(task["ne_gain_percent"] for task in found["tasks"].values())):
        assert (gain["mean"], *ends(gain), gain["verdict"]) == (0, 0, 0, "equivalent")
        assert gain["covers"] == "seeds and rows"


@pytest.mark.parametrize(
    ("gains", "verdict", "loses_nothing"),
    [
        ((0.3, 0.31, 0.32), "gain", True),
        ((-0.3, -0.31, -0.32), "loss", False),
        ((0.01, 0.011, 0.012), "equivalent", True),
        ((0.1, -0.1, 0.2), "inconclusive", False),
        ((0.0, 0.08, 0.12), "inconclusive", False),
    ],
)
def test_verdicts(gains: Sequence[float], verdict: str, loses_nothing: bool) -> None:
    seeds = [summarized(n, {"mean": (0.9, 0.9), "arm": [0.9 - g / 100] * 2}, TASKS) for n, g in enumerate(gains)]
    found = compare(seeds)["arms"]["arm"]
    records = [found["average_ne_gain_percent"], *(task["ne_gain_percent"] for task in found["tasks"].values())]
    assert {record["verdict"] for record in records} == {verdict}
    assert found["loses_nothing"] is loses_nothing


def test_verdicts_are_on_all_arms_and_tasks_together() -> None:
    """An interval that excludes 0 is not enough among many."""
    noise = 1e-4 * np.random.default_rng(3).standard_normal((3, 16))
    noise[:, 0] = np.array([3e-4, 4e-4, 5e-4])  # by itself a gain: t = 6.9, p = 0.02

    def compare_arms(arms: int) -> dict[str, Any]:
        nes = [{"mean": (0.9, 0.9), **{f"arm{i}": [0.9 - row[i]] * 2 for i in range(arms)}} for row in noise]
        return compare([summarized(seed, of_arms, TASKS) for seed, of_arms in enumerate(nes)])

    alone, many = compare_arms(1), compare_arms(16)
    one, among = (found["arms"]["arm0"]["average_ne_gain_percent"] for found in (alone, many))
    assert one["p"] == pytest.approx(stats.ttest_1samp([0.03, 0.04, 0.05], 0).pvalue)
    assert one["p"] == among["p"] == one["p_holm"]
    assert one["low"] > 0
    assert (one["verdict"], among["verdict"]) == ("gain", "inconclusive")
    assert among["p_holm"] == pytest.approx(16 * among["p"])
    assert many["families"] == {
        "procedure": "Holm",
        "level": pytest.approx(0.05),
        "margin": 0.05,
        "averages": 16,
        "arms_and_tasks": 32,
        "no_task_loses": 16,
    }
    assert many["chance_range"]["intervals"] == 32
    assert many["chance_range"]["exclude_zero"] >= 2
    assert 0 == many["chance_range"]["low"] < many["chance_range"]["high"] < 16
