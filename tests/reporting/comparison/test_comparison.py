"""comparison.json: keys, metrics, and what a seed without an NE leaves out."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlrm_mtl.files import read_json, write_json
from dlrm_mtl.reporting.effects.gains import Gains, gains_of_seed
from dlrm_mtl.reporting.markdown import format_comparison
from dlrm_mtl.reporting.seed_summary import summarize_seed
from dlrm_mtl.reporting.tables.metrics import products_table
from tests.reporting.comparison.comparing import ARMS, BETTER, QPS, compare, summary
from tests.reporting.results import TASKS, arm_result, simulate
from tests.reporting.runs import summarized

INTERVALS = {"mean", "low", "high", "covers", "over_seeds", "over_rows", "detectable"}
OTHER_GAINS = {
    f"{metric}_gain_percent" for metric in ("relative_ne", "auc", "auprc", "gauc", "uauc", "recalibrated_ne")
}


def test_keys(seeds: list[dict[str, Any]], gains: dict[int, dict[str, Gains]]) -> None:
    for found in (compare(seeds), compare(seeds, gains=gains)):
        assert found.keys() == {
            *("control", "tasks", "arms", "bayes_ne", "intervals", "families", "chance_range", "clusters"),
            *("task_weights", "reweighed", "planned_seeds", "added_seeds", "evaluation", "products"),
        }
        assert found["control"] == "mean"
        assert found["tasks"] == list(TASKS)
        assert found["clusters"] == "rows taken as independent"
        assert found["evaluation"]["click"]["rows"] == 3000
        assert list(found["arms"]) == list(ARMS)
        for arm in found["arms"].values():
            assert arm.keys() == {
                *("seeds", "qps", "end_to_end_qps", "average_ne_gain_percent", "tasks", "loses_nothing", "segments"),
                *("skipped_steps", "rows_lost", "products"),
            }
            assert arm["products"] == {}
            assert arm["seeds"] == [0, 1, 2]
            assert arm["qps"].keys() == {"median", "p10", "p90", "windows", "change_percent"}
            assert arm["qps"]["change_percent"].keys() == {"median", "low", "high"}
            assert list(arm["tasks"]) == list(TASKS)
            tasks = arm["tasks"].values()
            for gain in (arm["average_ne_gain_percent"], *(task["ne_gain_percent"] for task in tasks)):
                assert gain.keys() == {*INTERVALS, "p", "p_holm", "verdict"}
            for task in arm["tasks"].values():
                assert task.keys() == {
                    *("ne", "auc", "calibration", "ne_gain_percent", "exploded_seeds", "tied_pairs"),
                    *("auprc", "gauc", "uauc", "recalibrated_ne", "calibration_by_seed", "deciles_by_seed"),
                    *OTHER_GAINS,
                }
                assert task["relative_ne_gain_percent"].keys() == INTERVALS


def test_products_are_tasks_without_verdicts() -> None:
    seeds, gains = [], {}
    for seed in (0, 1):
        control, arm = simulate(3000, [0.9, 0.5], models=seed, shift=0.0)
        results = {"mean": arm_result(control, [], {"rare": (0, 1)}), "x": arm_result(arm, [], {"rare": (0, 1)})}
        results["single_task"] = arm_result(arm, [])
        seeds.append(summarize_seed(seed, TASKS, results))
        gains[seed] = gains_of_seed({name: result.evaluation for name, result in results.items()}, "mean")
    found = compare(seeds, gains=gains)
    assert found["products"]["rare"]["rows"] == 3000
    products = {name: arm["products"] for name, arm in found["arms"].items()}
    assert products["single_task"] == {}
    of_control, of_arm = products["mean"]["rare"], products["x"]["rare"]
    assert of_control.keys() == of_arm.keys() == found["arms"]["x"]["tasks"]["rare"].keys()
    for metric, sign in (("ne", 100), ("recalibrated_ne", 100), ("auc", -100), ("auprc", -100)):
        gain = of_arm[f"{metric}_gain_percent"]
        assert gain.keys() == INTERVALS
        assert gain["mean"] > 0
        assert gain["mean"] == pytest.approx(sign * (of_control[metric] - of_arm[metric]))
        assert gain["covers"] == "seeds and rows"
        assert of_control[f"{metric}_gain_percent"]["mean"] == 0
    assert compare(seeds)["arms"]["x"]["products"]["rare"]["ne_gain_percent"]["covers"] == "seeds"
    assert "rare" in products_table(found).markdown()  # type: ignore[union-attr]
    # Against a control that has none.
    single = [{**seed, "arms": {name: seed["arms"][name] for name in ("single_task", "x")}} for seed in seeds]
    [alone] = compare(single)["arms"]["x"]["products"].values()
    assert alone["ne"] == of_arm["ne"]
    assert alone["ne_gain_percent"] is None


def test_the_control_gains_nothing(seeds: list[dict[str, Any]]) -> None:
    for found in (compare(seeds), compare(seeds[:1])):
        control = found["arms"]["mean"]
        for gain in (control["average_ne_gain_percent"], *(t["ne_gain_percent"] for t in control["tasks"].values())):
            assert (gain["mean"], gain["low"], gain["high"], gain["verdict"]) == (0, 0, 0, None)
        assert control["loses_nothing"] is None
        assert control["qps"]["change_percent"] == {"median": 0, "low": 0, "high": 0}


def test_metrics_are_means_over_seeds(seeds: list[dict[str, Any]]) -> None:
    found = compare(seeds)
    for arm in ARMS:
        for task in TASKS:
            for metric in ("ne", "auc"):
                values = [seed["arms"][arm]["tasks"][task][metric] for seed in seeds]
                assert len(set(values)) == 3
                assert found["arms"][arm]["tasks"][task][metric] == pytest.approx(np.mean(values))


def test_calibration_is_that_of_the_seed_farthest_from_one() -> None:
    """0.8 and 1.2 do not average to 1; 0.5 is as far from 1 as 2."""
    both = [summarized(seed, {"mean": (0.9, 0.9), "arm": (0.9, 0.9)}, TASKS) for seed in range(3)]
    for seed, value in zip(both, (0.7, 1.2, 1.0), strict=True):
        seed["arms"]["arm"]["tasks"]["rare"]["calibration"] = value
    found = compare(both)["arms"]["arm"]["tasks"]["rare"]
    assert found["calibration"] == 0.7
    assert [(one["seed"], one["calibration"]) for one in found["calibration_by_seed"]] == [(0, 0.7), (1, 1.2), (2, 1)]
    both[1]["arms"]["arm"]["tasks"]["rare"]["calibration"] = 1.5
    assert compare(both)["arms"]["arm"]["tasks"]["rare"]["calibration"] == 1.5
    both[1]["arms"]["arm"]["tasks"]["rare"]["calibration"] = None
    assert compare(both)["arms"]["arm"]["tasks"]["rare"]["calibration"] is None


def test_only_known_bayes_ne_is_there(seeds: list[dict[str, Any]]) -> None:
    assert compare(seeds)["bayes_ne"] == {}
    assert compare(seeds, {"click": 0.8, "rare": None})["bayes_ne"] == {"click": 0.8}


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("qps", [QPS, ([], [], [])])
def test_it_is_a_file_without_nan(tmp_path: Path, count: int, qps: Sequence[Sequence[float]]) -> None:
    found = compare([summary(seed, qps) for seed in range(count)])
    write_json(tmp_path / "comparison.json", found)
    assert read_json(tmp_path / "comparison.json") == found
    assert "NaN" not in (tmp_path / "comparison.json").read_text()


def test_summary_of_a_seed(seeds: list[dict[str, Any]]) -> None:
    assert seeds[2]["seed"] == 2
    assert list(seeds[2]["arms"]) == list(ARMS)
    arm = seeds[2]["arms"][BETTER]
    assert arm["qps"] == QPS[1]
    assert arm["tasks"]["click"]["rows"] == 3000
    assert 0 < arm["tasks"]["rare"]["positives"] < 300


def test_an_explosion_is_reported_not_hidden() -> None:
    """A seed without an NE has no gain, and the comparison none either; a large NE is marked and counted."""
    seeds, gains = [], {}
    for seed in range(2):
        usual, arm = simulate(500, [0.5, 0.4], models=seed, shift=-1.0)
        if seed == 0:
            arm = replace(arm, logits=arm.logits * 30)  # NE far above 2
            arm.logits[3, 1] = float("nan")
        results = {name: arm_result(p, [1.0]) for name, p in (("mean", usual), ("arm", arm))}
        seeds.append(summarize_seed(seed, TASKS, results))
        gains[seed] = gains_of_seed({name: result.evaluation for name, result in results.items()}, "mean")
    comparison = compare(seeds, gains=gains)
    json.dumps(comparison, allow_nan=False)
    tasks = comparison["arms"]["arm"]["tasks"]
    assert tasks["click"]["exploded_seeds"] == tasks["rare"]["exploded_seeds"] == [0]
    assert tasks["click"]["ne_gain_percent"] is not None
    assert tasks["rare"]["ne"] is tasks["rare"]["ne_gain_percent"] is None
    assert tasks["rare"]["relative_ne_gain_percent"] is None
    assert comparison["arms"]["arm"]["average_ne_gain_percent"] is None
    assert comparison["arms"]["arm"]["loses_nothing"] is None
    assert comparison["arms"]["mean"]["tasks"]["click"]["exploded_seeds"] == []
    text = format_comparison(comparison)
    assert text.count("NEX in seed 0") == 2
