"""comparison.json: keys, signs, intervals, verdicts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from dlrm_mtl.files import read_json, write_json
from dlrm_mtl.reporting.comparison import compare_seeds
from dlrm_mtl.reporting.effects.gains import Gains, gains_of_seed
from dlrm_mtl.reporting.markdown import format_comparison
from dlrm_mtl.reporting.seed_summary import summarize_seed
from dlrm_mtl.reporting.tables.metrics import products_table
from dlrm_mtl.training.loop import ArmResult
from tests.reporting.results import TASKS, FloatArray, arm_result, row_sums, simulate
from tests.reporting.runs import summarized

ARMS = ("mean", "multibalance:beta=0.1", "sum")
BETTER = ARMS[1]
NOISES = (0.8, 0.3, 1.2)
QPS = ([100.0, 200.0, 300.0], [90.0, 190.0, 330.0], [100.0, 200.0, 300.0])
UNKNOWN: Mapping[str, float | None] = dict.fromkeys(TASKS)
INTERVALS = {"mean", "low", "high", "covers", "over_seeds", "over_rows", "detectable"}
OTHER_GAINS = {
    f"{metric}_gain_percent" for metric in ("relative_ne", "auc", "auprc", "gauc", "uauc", "recalibrated_ne")
}


def results(seed: int, qps: Sequence[Sequence[float]] = QPS) -> dict[str, ArmResult]:
    """A summary of another seed on the same rows."""
    predictions = simulate(3000, NOISES, models=seed)
    return {arm: arm_result(p, values) for arm, p, values in zip(ARMS, predictions, qps, strict=True)}


def summary(seed: int, qps: Sequence[Sequence[float]] = QPS) -> dict[str, Any]:
    return summarize_seed(seed, TASKS, results(seed, qps))


def compare(
    seeds: Sequence[dict[str, Any]], bayes: Mapping[str, float | None] = UNKNOWN, **options: Any
) -> dict[str, Any]:
    # Through files, as the entry point does.
    return compare_seeds(TASKS, [json.loads(json.dumps(seed, allow_nan=False)) for seed in seeds], bayes, **options)


@pytest.fixture(scope="module")
def seeds() -> list[dict[str, Any]]:
    return [summary(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def gains() -> dict[int, dict[str, Gains]]:
    evaluations = ({arm: result.evaluation for arm, result in results(seed).items()} for seed in range(3))
    return {seed: gains_of_seed(arms, "mean") for seed, arms in enumerate(evaluations)}


def ends(record: Mapping[str, Any]) -> tuple[float, float]:
    return record["low"], record["high"]


def half(record: Mapping[str, Any]) -> float:
    return float(record["high"] - record["low"]) / 2


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


def test_without_what_rows_contribute_intervals_are_students_over_seeds(seeds: list[dict[str, Any]]) -> None:
    found = compare(seeds)
    assert found["intervals"] == "for other seeds on these evaluation rows"
    for arm in ARMS[1:]:
        averages = []
        for task in TASKS:
            pairs = [(seed["arms"]["mean"]["tasks"][task], seed["arms"][arm]["tasks"][task]) for seed in seeds]
            per_seed = [100 * (control["ne"] - mine["ne"]) for control, mine in pairs]
            check_student(found["arms"][arm]["tasks"][task]["ne_gain_percent"], per_seed)
            averages.append(per_seed)
        check_student(found["arms"][arm]["average_ne_gain_percent"], np.mean(averages, axis=0).tolist())
    assert found["arms"][BETTER]["average_ne_gain_percent"]["low"] > 0
    assert found["arms"]["sum"]["average_ne_gain_percent"]["high"] < 0


def check_student(gain: Mapping[str, Any], values: Sequence[float]) -> None:
    assert gain["mean"] == pytest.approx(np.mean(values))
    expected = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    assert ends(gain) == pytest.approx(expected)
    assert ends(gain["over_seeds"]) == pytest.approx(expected)
    assert gain["over_rows"] is None
    assert gain["covers"] == "seeds"


def test_intervals_for_new_traffic_cover_seeds_and_rows(
    seeds: list[dict[str, Any]], gains: dict[int, dict[str, Gains]]
) -> None:
    found, of_seeds = compare(seeds, gains=gains), compare(seeds)
    assert found["intervals"] == "for other seeds and other evaluation rows"
    for arm in ARMS[1:]:
        expected = bootstrap_of_the_mean_over_seeds(ARMS.index(arm))
        records = [task["ne_gain_percent"] for task in found["arms"][arm]["tasks"].values()]
        students = [task["ne_gain_percent"] for task in of_seeds["arms"][arm]["tasks"].values()]
        for gain, student, spread in zip(
            [*records, found["arms"][arm]["average_ne_gain_percent"]],
            [*students, of_seeds["arms"][arm]["average_ne_gain_percent"]],
            expected[:3],
            strict=True,
        ):
            assert gain["covers"] == "seeds and rows"
            assert gain["mean"] == pytest.approx(student["mean"])
            assert ends(gain["over_seeds"]) == pytest.approx(ends(student))
            assert half(gain["over_rows"]) == pytest.approx(1.96 * spread, rel=0.15)
            assert half(gain) ** 2 == pytest.approx(half(gain["over_seeds"]) ** 2 + half(gain["over_rows"]) ** 2)
            assert gain["detectable"] > 0


def bootstrap_of_the_mean_over_seeds(arm: int) -> FloatArray:
    """(5,) standard deviation over resamples of rows: of tasks' gains, of their average, of tasks' relative gains."""
    rng = np.random.default_rng(0)
    models = [simulate(3000, NOISES, models=seed) for seed in range(3)]
    sums = np.stack([[row_sums(model[0]), row_sums(model[arm])] for model in models])  # (S, 2, rows, M, 4)
    found = []
    for _ in range(300):
        total = np.einsum("r,sarmc->samc", rng.multinomial(3000, np.full(3000, 1 / 3000)), sums)
        rate = total[..., 1] / total[..., 0]
        ne = total[..., 2] / total[..., 0] / -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
        gain = 100 * (ne[:, 0] - ne[:, 1]).mean(axis=0)
        relative = 100 * ((ne[:, 0] - ne[:, 1]) / ne[:, 0]).mean(axis=0)
        found.append([*gain, gain.mean(), *relative])
    spread: FloatArray = np.std(found, axis=0)
    return spread


def test_one_seed_tells_of_one_pair_of_models(seeds: list[dict[str, Any]], gains: dict[int, dict[str, Gains]]) -> None:
    for found in (compare(seeds[:1]), compare(seeds[:1], gains=gains)):
        assert found["intervals"] == "for these models on other evaluation rows"
        for arm in ARMS[1:]:
            mine, summarized_arm = found["arms"][arm], seeds[0]["arms"][arm]
            pairs = [(mine["average_ne_gain_percent"], summarized_arm["average_ne_gain_percent"])]
            pairs += [
                (mine["tasks"][task]["ne_gain_percent"], summarized_arm["tasks"][task]["ne_gain_percent"])
                for task in TASKS
            ]
            for gain, of_seed in pairs:
                assert (gain["mean"], *ends(gain)) == pytest.approx(tuple(of_seed.values()), rel=1e-4)
                assert gain["low"] < gain["mean"] < gain["high"]
                assert (gain["covers"], gain["over_seeds"], gain["verdict"]) == ("rows", None, None)
                assert gain["p_holm"] is None
            assert mine["loses_nothing"] is None
        assert found["families"]["arms_and_tasks"] == found["families"]["averages"] == 0


def test_a_seed_without_estimates_leaves_rows_out(
    seeds: list[dict[str, Any]], gains: dict[int, dict[str, Gains]]
) -> None:
    """Like a run of an earlier version."""
    found = compare(seeds, gains={0: gains[0], 2: gains[2]})
    assert found == compare(seeds)


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


def test_the_average_takes_the_tasks_weights(seeds: list[dict[str, Any]], gains: dict[int, dict[str, Gains]]) -> None:
    """With all the weight on one task it is that task's gain, with its intervals."""
    found = compare(seeds, gains=gains, task_weights={"click": 1.0, "rare": 0.0})["arms"][BETTER]
    assert found["average_ne_gain_percent"]["mean"] == pytest.approx(found["tasks"]["click"]["ne_gain_percent"]["mean"])
    for key in ("over_seeds", "over_rows"):
        expected = ends(found["tasks"]["click"]["ne_gain_percent"][key])
        assert ends(found["average_ne_gain_percent"][key]) == pytest.approx(expected)
    mixed = compare(seeds, gains=gains, task_weights={"click": 0.25, "rare": 0.75})
    assert mixed["task_weights"] == {"click": 0.25, "rare": 0.75}
    arm = mixed["arms"][BETTER]
    means = [arm["tasks"][task]["ne_gain_percent"]["mean"] for task in TASKS]
    assert arm["average_ne_gain_percent"]["mean"] == pytest.approx(0.25 * means[0] + 0.75 * means[1])


def test_gains_relative_to_the_controls_ne(seeds: list[dict[str, Any]], gains: dict[int, dict[str, Gains]]) -> None:
    tasks = compare(seeds, gains=gains)["arms"][BETTER]["tasks"]
    for task in TASKS:
        nes = [[seed["arms"][arm]["tasks"][task]["ne"] for seed in seeds] for arm in ("mean", BETTER)]
        values = [100 * (control - mine) / control for control, mine in zip(*nes, strict=True)]
        relative = tasks[task]["relative_ne_gain_percent"]
        assert relative["mean"] == pytest.approx(np.mean(values))
        assert half(relative["over_seeds"]) == pytest.approx(stats.t.ppf(0.975, 2) * stats.sem(values))
    spreads = bootstrap_of_the_mean_over_seeds(1)[3:]
    for task, spread in zip(TASKS, spreads, strict=True):
        assert half(tasks[task]["relative_ne_gain_percent"]["over_rows"]) == pytest.approx(1.96 * spread, rel=0.15)


def test_gains_in_auc_are_positive_where_it_is_higher(seeds: list[dict[str, Any]]) -> None:
    gain = compare(seeds)["arms"][BETTER]["tasks"]["click"]["auc_gain_percent"]
    mine, control = ([seed["arms"][arm]["tasks"]["click"]["auc"] for seed in seeds] for arm in (BETTER, "mean"))
    values = 100 * np.subtract(mine, control)
    assert gain["mean"] == pytest.approx(values.mean())
    assert gain["mean"] > 1
    assert ends(gain) == pytest.approx(stats.t.interval(0.95, 2, np.mean(values), stats.sem(values)))


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
