"""Gains in comparison.json and their intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from dlrm_mtl.reporting.effects.gains import Gains
from tests.reporting.comparison.comparing import ARMS, BETTER, NOISES, compare, ends, half
from tests.reporting.results import TASKS, FloatArray, row_sums, simulate


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
