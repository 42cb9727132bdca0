"""The experiment ``front``."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from dlrm_mtl.balancing import available_balancers, create_balancer
from dlrm_mtl.recipe import parse_recipe
from dlrm_mtl.reporting.effects.gains import Gains, gains_over
from dlrm_mtl.reporting.figures.front_figure import front_figure
from dlrm_mtl.studies.front.case import FrontConfig, front_arms
from dlrm_mtl.studies.front.points import ArmGains
from tests.entry_points.processes import python
from tests.reporting.estimates import drawn_estimates

TASKS = ("click", "like", "buy")


def by_seed(nes: Mapping[str, Sequence[Sequence[float]]], error: float = 0.0001) -> list[dict[str, Gains]]:
    """Gains from the NE by arm, seed and task; the first arm is the control."""
    drawn = [
        drawn_estimates(dict(zip(nes, of_seed, strict=True)), error) for of_seed in zip(*nes.values(), strict=True)
    ]
    control = next(iter(nes))
    return [{arm: gains_over(seed[control].estimates, own.estimates) for arm, own in seed.items()} for seed in drawn]


def test_no_arm_exceeds_those_of_the_front_in_both() -> None:
    random = np.random.default_rng(0)
    nes = {arm: (0.8 + 0.01 * random.standard_normal((2, 3))).tolist() for arm in ("mean", *"abcdefghi")}
    shares = [0.5, 0.3, 0.2]
    points = ArmGains(by_seed(nes), TASKS, shares).points()
    gains = {arm: 100 * (np.array(nes["mean"]) - np.array(values)).mean(axis=0) for arm, values in nes.items()}
    expected = {arm: (float(own @ shares), float(own.min())) for arm, own in gains.items()}
    for arm, (average, worst) in expected.items():
        point = points[arm]
        assert (point["average"]["mean"], point["worst"]["mean"]) == pytest.approx((average, worst))
        assert point["worst"]["task"] == TASKS[int(gains[arm].argmin())]
        assert [point["tasks"][task]["mean"] for task in TASKS] == pytest.approx(gains[arm])
        assert point["on_front"] != any(a > average and w > worst for a, w in expected.values())
        worsts = (100 * (np.array(nes["mean"]) - np.array(nes[arm]))).min(axis=1)
        assert point["mean_of_each_seeds_worst"] == pytest.approx(worsts.mean())
    assert 1 < sum(point["on_front"] for point in points.values()) < len(points)


def test_a_difference_within_the_noise_is_not_called_worse() -> None:
    seeds = {
        "mean": [[0.8, 0.8, 0.8]] * 3,
        "best": [[0.79, 0.79, 0.79], [0.791, 0.791, 0.791], [0.789, 0.789, 0.789]],
        "worse": [[0.81, 0.79, 0.81], [0.811, 0.791, 0.811], [0.809, 0.789, 0.809]],
        "close": [[0.7905, 0.7905, 0.7905], [0.7900, 0.7900, 0.7900], [0.7901, 0.7901, 0.7901]],
    }
    points = ArmGains(by_seed(seeds), TASKS, [1 / 3] * 3).points()
    assert [arm for arm, point in points.items() if point["on_front"]] == ["best"]
    assert {arm: point["worse_than"] for arm, point in points.items()} == {
        "mean": "best",
        "best": None,
        "worse": "best",
        "close": None,
    }
    assert (
        points["worse"]["share_on_front"] < 0.025 < points["close"]["share_on_front"] < points["best"]["share_on_front"]
    )


def test_an_arm_of_one_seed_has_the_error_over_rows() -> None:
    points = ArmGains(by_seed({"mean": [[0.8] * 3], "a": [[0.79] * 3], "b": [[0.7901] * 3]}, 0.01), TASKS, [1 / 3] * 3)
    a, b = (points.points()[arm] for arm in "ab")
    assert (a["tasks"]["click"]["high"] - a["tasks"]["click"]["low"]) / 2 == pytest.approx(1.96, abs=0.05)
    assert b["worse_than"] is None
    assert 0.5 < b["share_on_front"] < a["share_on_front"] < 0.9


def test_an_arm_whose_loss_exploded_has_no_point() -> None:
    gains = ArmGains(by_seed({"mean": [[0.8] * 3], "a": [[0.7] * 3], "nan": [[0.7, np.nan, 0.7]]}), TASKS, [1 / 3] * 3)
    assert gains.arms == list(gains.points()) == ["mean", "a"]


def test_every_method_has_every_share_of_the_mean_that_it_can_have(tmp_path: Path) -> None:
    arms = FrontConfig(tmp_path, tmp_path).comparisons().arms
    assert arms == front_arms()
    recipes = [parse_recipe(arm) for arm in arms]
    methods = {recipe.method for recipe in recipes}
    assert {*available_balancers()} - {"sum", "static"} <= methods
    for method in methods - {"multibalance_recommended"}:
        shares = {recipe.options.get("mix", 0) for recipe in recipes if recipe.method == method}
        fades = {recipe.fade_share for recipe in recipes if recipe.method == method}
        try:
            create_balancer(method, 3, mix=0.5)
        except ValueError:
            assert shares == fades == {0}
        else:
            assert shares == {0, 0.25, 0.5, 1}
            assert fades == {0, 1}


@pytest.fixture(scope="module")
def out(small_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "front"
    options = (
        *("--arms", "mean", "mgda:mix=1", "--architectures", "bottom", "mmoe:expert_mlp=8", "--seeds", "2"),
        *("--batch-size", "64", "--max-steps", "2", "--model.head-mlp", "8"),
    )
    process = python("dlrm_mtl.experiments", "front", "--data", small_dataset, "--out", out, *options)
    assert process.returncode == 0, process.stderr
    return out


def test_the_front_is_that_of_the_comparisons(out: Path) -> None:
    front = json.loads((out / "front.json").read_text())
    joined = json.loads((out / "architectures.json").read_text())["comparison"]
    assert front["control"] == joined["control"] == "bottom + mean"
    assert front["architectures"] == {"bottom": "bottom", "mmoe": "mmoe:expert_mlp=8"}
    assert front["seeds"] == [0, 1]
    assert len(front["arms"]) == 4
    text = (out / "report.md").read_text()
    for arm, point in front["arms"].items():
        record = joined["arms"][arm.replace("mmoe", "mmoe:expert_mlp=8")]
        gains = {task: values["ne_gain_percent"]["mean"] for task, values in record["tasks"].items()}
        assert point["worst"]["task"] == min(gains, key=lambda task: gains[task])
        for end in ("mean", "low", "high"):
            assert point["average"][end] == pytest.approx(record["average_ne_gain_percent"][end], abs=1e-6)
        assert f"{point['average']['mean']:+.3f}" in text


def test_the_figure_names_the_arms_of_the_front(out: Path) -> None:
    front = json.loads((out / "front.json").read_text())
    written = (out / "front.svg").read_text()
    both = front_figure({"first": front, "second": front})
    for svg, panels in ((written, 1), (both, 2)):
        words = [text for element in ElementTree.fromstring(svg).iter() if (text := element.text) and text.strip()]
        for arm, point in front["arms"].items():
            assert sum(word.endswith(arm) for word in words) == panels * point["on_front"], arm
    assert "first" in both
    assert "second" in both
