"""The noise of gains before any comparison."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from dlrm_mtl.power_analysis.options import PowerOptions
from dlrm_mtl.power_analysis.report import analyse_power, format_power
from tests.datasets import make_dataset
from tests.messages import mentions
from tests.pages import ROOT

RESULTS = ROOT / "docs/results/experiments"
POSITIVES = {
    "kuairand-feeds": {"click": 13_732, "long_view": 9_659, "like": 545, "profile_enter": 585, "comment": 78},
    "kuairand-ads": {"ctr": 13_732, "cvr": 9_627, "conv_imp": 9_627},
    "census-income": {"income": 3_096, "never_married": 21_621},
}
"""In the evaluation split, at the rate of the training rows."""


def test_the_default_spread_over_seeds_is_that_of_the_committed_results() -> None:
    spreads = []
    for file in sorted(RESULTS.glob("*/*/comparison.json")):
        comparison = json.loads(file.read_text())
        positives = POSITIVES.get(file.parts[-3], {})
        for name, arm in comparison["arms"].items():
            seeds = len(arm["seeds"])
            for task, count in positives.items() if name != comparison["control"] and seeds > 2 else ():
                gain = arm["tasks"][task]["ne_gain_percent"]
                if gain is not None:
                    interval = gain.get("over_seeds") or gain
                    half = (interval["high"] - interval["low"]) / 2
                    spreads.append(half * math.sqrt(seeds * count) / stats.t.isf(0.025, seeds - 1))
    assert len(spreads) > 300
    assert PowerOptions(data=Path("data")).seed_spread == pytest.approx(np.median(spreads), abs=0.1)
    assert np.quantile(spreads, [0.25, 0.75]) == pytest.approx([3.5, 10], rel=0.05)


def test_the_default_spread_over_rows_is_that_of_a_run() -> None:
    gains = json.loads((ROOT / "docs/results/statistics/power.json").read_text())["gains"]
    spreads = [g["noise"]["shared_rows"] * math.sqrt(g["positives"]) for g in gains if g["task"] is not None]
    assert len(spreads) == 5
    assert PowerOptions(data=Path("data")).row_spread == pytest.approx(np.median(spreads), abs=0.1)
    assert [min(spreads), max(spreads)] == pytest.approx([1.3, 3.8], rel=0.1)
    # Half of the variance over seeds on the same rows falls with more rows.
    shares = [g["noise"]["own_rows"] ** 2 / (g["noise"]["own_rows"] ** 2 + g["noise"]["seed"] ** 2) for g in gains]
    assert np.median(shares) == pytest.approx(0.5, abs=0.1)


def test_noise_goes_by_positives(small_dataset: Path) -> None:
    options = PowerOptions(data=small_dataset, seed_spread=6.0, row_spread=3.0)
    gains = {gain["task"]: gain for gain in analyse_power(options)["gains"]}
    schema = json.loads((small_dataset / "schema.json").read_text())
    rates = {task["name"]: task["base_rate"] for task in schema["tasks"]}
    rows = {"click": 200, "like": 200, "buy": round(200 * rates["click"])}  # defined on rows with a click
    for task, count in rows.items():
        positives = count * rates[task]
        assert (gains[task]["rows"], gains[task]["positives"]) == (count, round(positives))
        assert gains[task]["noise"]["own_rows"] == pytest.approx(6.0 / math.sqrt(2 * positives))
        assert gains[task]["noise"]["seed"] == gains[task]["noise"]["own_rows"]
        assert gains[task]["noise"]["shared_rows"] == pytest.approx(3.0 / math.sqrt(positives))
    mean_square = np.mean([gains[task]["noise"]["own_rows"] ** 2 for task in rows]) / 3
    assert gains[None]["noise"]["own_rows"] == pytest.approx(math.sqrt(mean_square))


def test_a_condition_that_is_no_task_is_said(tmp_path: Path) -> None:
    directory = make_dataset(tmp_path / "data")
    schema = json.loads((directory / "schema.json").read_text())
    schema["tasks"] = [task for task in schema["tasks"] if task["name"] != "click"]
    (directory / "schema.json").write_text(json.dumps(schema))
    report = analyse_power(PowerOptions(data=directory))
    assert mentions(report["notes"][1], "click = 1", "buy")
    assert {gain["rows"] for gain in report["gains"]} == {200}


def test_the_table_says_what_was_assumed(small_dataset: Path) -> None:
    text = format_power(analyse_power(PowerOptions(data=small_dataset, seeds=7, effect=2.0)))
    assert "200 evaluation rows" in text
    assert mentions(text, "2 %", "80%")
    assert mentions(text, "6 %", "--seed-spread")
    assert "(--row-spread)" in text
    assert "rows, 7 seeds" in text
    for task in ("average", "click", "like", "buy"):
        assert re.search(rf"^{task} +[0-9]", text, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"run, data is \[\], expected one of the two"),
        ({"run": Path("a"), "data": Path("b")}, r"run, data is \['run', 'data'\], expected one of the two"),
        ({"data": Path("b"), "effect": 0.0}, "effect is 0.0, expected a positive number"),
        ({"data": Path("b"), "row_spread": math.inf}, "row_spread is inf, expected a positive number"),
        ({"data": Path("b"), "seeds": 1}, "seeds is 1, expected two at least"),
        ({"data": Path("b"), "arms": ("x",)}, "expected none with a data set"),
        ({"data": Path("b"), "task_weights": ("click",)}, "not of the form TASK=WEIGHT"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PowerOptions(**options)  # type: ignore[arg-type]
