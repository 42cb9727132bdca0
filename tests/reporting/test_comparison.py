"""comparison.json: its keys, its signs, its intervals."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlrm_mtl.files import read_json, write_json
from dlrm_mtl.metrics.bucket_sums import normalized_entropy_estimates
from dlrm_mtl.metrics.estimates import FloatArray
from dlrm_mtl.metrics.evaluation import Evaluation
from dlrm_mtl.metrics.task_metrics import TaskEvaluation
from dlrm_mtl.reporting.comparison import compare_seeds
from dlrm_mtl.reporting.markdown import format_comparison
from dlrm_mtl.reporting.seed_summary import summarize_seed
from dlrm_mtl.reporting.statistics import t_interval
from dlrm_mtl.training.loop import ArmResult
from tests.reporting.results import TASKS, arm_result, simulate

ARMS = ("mean", "multibalance:beta=0.1", "sum")
NOISES = (0.8, 0.3, 1.2)
QPS = ([100.0, 200.0, 300.0], [90.0, 190.0, 330.0], [100.0, 200.0, 300.0])
UNKNOWN: Mapping[str, float | None] = dict.fromkeys(TASKS)


def summary(seed: int, qps: Sequence[Sequence[float]] = QPS) -> dict[str, Any]:
    predictions = simulate(3000, NOISES, seed)
    results = {arm: arm_result(p, values) for arm, p, values in zip(ARMS, predictions, qps, strict=True)}
    return summarize_seed(seed, TASKS, results)


def compare(seeds: Sequence[dict[str, Any]], bayes: Mapping[str, float | None] = UNKNOWN) -> dict[str, Any]:
    # As the entry point does it: through files.
    return compare_seeds(TASKS, [json.loads(json.dumps(seed, allow_nan=False)) for seed in seeds], bayes)


@pytest.fixture(scope="module")
def seeds() -> list[dict[str, Any]]:
    return [summary(seed) for seed in range(3)]


def test_keys(seeds: list[dict[str, Any]]) -> None:
    found = compare(seeds)
    assert found.keys() >= {"control", "tasks", "arms"}
    assert found["control"] == "mean"
    assert found["tasks"] == list(TASKS)
    assert list(found["arms"]) == list(ARMS)
    gain = {"mean", "low", "high"}
    for arm in found["arms"].values():
        assert arm.keys() == {
            *("seeds", "qps", "end_to_end_qps", "average_ne_gain_percent", "tasks"),
            *("skipped_steps", "rows_lost"),
        }
        assert arm["seeds"] == [0, 1, 2]
        assert arm["qps"].keys() == {"median", "p10", "p90", "windows", "change_percent"}
        assert arm["qps"]["change_percent"].keys() == {"median", "low", "high"}
        assert arm["average_ne_gain_percent"].keys() == gain
        assert list(arm["tasks"]) == list(TASKS)
        for task in arm["tasks"].values():
            assert task.keys() == {"ne", "auc", "calibration", "ne_gain_percent", "exploded_seeds"}
            assert task["ne_gain_percent"].keys() == gain


def test_the_control_gains_nothing(seeds: list[dict[str, Any]]) -> None:
    nothing = {"mean": 0, "low": 0, "high": 0}
    for found in (compare(seeds), compare(seeds[:1])):
        control = found["arms"]["mean"]
        assert control["average_ne_gain_percent"] == nothing
        assert [task["ne_gain_percent"] for task in control["tasks"].values()] == [nothing] * 2
        assert control["qps"]["change_percent"] == {"median": 0, "low": 0, "high": 0}


def test_metrics_are_means_over_seeds(seeds: list[dict[str, Any]]) -> None:
    found = compare(seeds)
    for arm in ARMS:
        for task in TASKS:
            for metric in ("ne", "auc", "calibration"):
                values = [seed["arms"][arm]["tasks"][task][metric] for seed in seeds]
                assert len(set(values)) == 3
                assert found["arms"][arm]["tasks"][task][metric] == pytest.approx(np.mean(values))


def test_gains_of_several_seeds_have_students_interval(seeds: list[dict[str, Any]]) -> None:
    found = compare(seeds)
    assert found["intervals"] == "t over seeds"
    for arm in ARMS[1:]:
        averages = []
        for task in TASKS:
            pairs = [(seed["arms"]["mean"]["tasks"][task], seed["arms"][arm]["tasks"][task]) for seed in seeds]
            gains = [100 * (control["ne"] - mine["ne"]) for control, mine in pairs]
            expected = t_interval(gains)
            gain = found["arms"][arm]["tasks"][task]["ne_gain_percent"]
            assert (gain["mean"], gain["low"], gain["high"]) == pytest.approx(
                (expected.center, expected.low, expected.high)
            )
            averages.append(gains)
        expected = t_interval(np.mean(averages, axis=0).tolist())
        gain = found["arms"][arm]["average_ne_gain_percent"]
        assert (gain["mean"], gain["low"], gain["high"]) == pytest.approx(
            (expected.center, expected.low, expected.high)
        )
    assert found["arms"]["multibalance:beta=0.1"]["average_ne_gain_percent"]["low"] > 0
    assert found["arms"]["sum"]["average_ne_gain_percent"]["high"] < 0


def test_gains_of_one_seed_have_the_bootstraps_interval(seeds: list[dict[str, Any]]) -> None:
    found = compare(seeds[:1])
    assert found["intervals"] == "paired bootstrap over evaluation rows"
    for arm in ARMS:
        mine, summarized = found["arms"][arm], seeds[0]["arms"][arm]
        assert mine["average_ne_gain_percent"] == summarized["average_ne_gain_percent"]
        for task in TASKS:
            assert mine["tasks"][task]["ne_gain_percent"] == summarized["tasks"][task]["ne_gain_percent"]
    gain = found["arms"]["multibalance:beta=0.1"]["tasks"]["click"]["ne_gain_percent"]
    assert gain["low"] < gain["mean"] < gain["high"]


def test_speed_is_paired_window_by_window(seeds: list[dict[str, Any]]) -> None:
    qps = compare(seeds[:1])["arms"]["multibalance:beta=0.1"]["qps"]
    assert qps["windows"] == 3
    assert (qps["median"], qps["p10"], qps["p90"]) == pytest.approx((190, 110, 302))
    # -10, -5 and +10 percent; the change of the medians is the same by chance of the numbers, that of the means not.
    assert qps["change_percent"]["median"] == pytest.approx(-5)
    assert qps["change_percent"]["low"] == pytest.approx(-10)
    assert qps["change_percent"]["high"] == pytest.approx(10)
    assert compare(seeds)["arms"]["sum"]["qps"]["windows"] == 9


def test_speed_pools_the_seeds() -> None:
    slower = ([100.0], [50.0], [100.0])
    found = compare([summary(0, slower), summary(1, ([1000.0], [900.0], [1000.0]))])
    qps = found["arms"]["multibalance:beta=0.1"]["qps"]
    assert qps["median"] == pytest.approx(475)
    assert qps["change_percent"]["median"] == pytest.approx(-30)


def test_without_timed_windows_there_is_no_speed() -> None:
    found = compare([summary(seed, ([], [], [])) for seed in range(2)])
    assert [arm["qps"] for arm in found["arms"].values()] == [None] * 3


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
    arm = seeds[2]["arms"]["multibalance:beta=0.1"]
    assert arm["qps"] == QPS[1]
    assert arm["tasks"]["click"]["rows"] == 3000
    assert 0 < arm["tasks"]["rare"]["positives"] < 300


def test_an_explosion_is_reported_not_hidden() -> None:
    """A seed without an NE has no gain, and the comparison none either; a large NE is marked and counted."""
    nothing = TaskEvaluation(rows=100, positives=30, ne=None, log_loss=None, auc=None, calibration=None)
    usual = TaskEvaluation(rows=100, positives=30, ne=0.9, log_loss=0.5, auc=0.7, calibration=1.0)
    worse = TaskEvaluation(rows=100, positives=30, ne=2.5, log_loss=1.5, auc=0.5, calibration=3.0)
    sums = np.tile([[[10.0, 3.0, 5.0, 3.0]]], (10, 2, 1))
    broken = sums.copy()
    broken[:, 1, 2] = np.nan

    def result(tasks: list[TaskEvaluation], sums: FloatArray, skipped: int, lost: int) -> ArmResult:
        return ArmResult(Evaluation({"ne": normalized_entropy_estimates(sums)}, {}, tasks, sums), [1.0], skipped, lost)

    control = result([usual, usual], sums, 0, 0)
    seeds = [
        summarize_seed(0, ["a", "b"], {"mean": control, "arm": result([worse, nothing], broken, 3, 5)}),
        summarize_seed(1, ["a", "b"], {"mean": control, "arm": result([usual, usual], sums, 0, 0)}),
    ]
    comparison = compare_seeds(["a", "b"], seeds, {})
    json.dumps(comparison, allow_nan=False)
    tasks = comparison["arms"]["arm"]["tasks"]
    assert tasks["a"]["exploded_seeds"] == tasks["b"]["exploded_seeds"] == [0]
    assert tasks["a"]["ne_gain_percent"] is not None
    assert tasks["b"]["ne"] is tasks["b"]["ne_gain_percent"] is None
    assert comparison["arms"]["arm"]["average_ne_gain_percent"] is None
    assert comparison["arms"]["mean"]["tasks"]["a"]["exploded_seeds"] == []
    text = format_comparison(comparison)
    assert text.count("NEX in seeds [0]") == 2
