"""The noise of gains, measured from a run directory."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlrm_mtl.metrics.buckets import BUCKETS
from dlrm_mtl.metrics.estimates import Estimates
from dlrm_mtl.metrics.estimates_file import write_estimates
from dlrm_mtl.metrics.evaluation import EvaluationEstimates
from dlrm_mtl.power_analysis.options import PowerOptions
from dlrm_mtl.power_analysis.report import analyse_power, format_power
from tests.messages import mentions, naming
from tests.pages import ROOT
from tests.reporting.runs import summarized, write_run

FEEDS = ROOT / "docs/results/experiments/kuairand-feeds/transfer"


def counted(seed: int, gains: tuple[float | None, float | None]) -> dict[str, Any]:
    """A seed with these gains of its arm (%)."""
    summary = summarized(seed, {"mean": (0.9, 0.9), "x": [None if g is None else 0.9 - g / 100 for g in gains]})
    for arm in summary["arms"].values():
        arm["tasks"]["click"] |= {"rows": 8000, "positives": 2000}
        arm["tasks"]["buy"] |= {"rows": 2000, "positives": 50}
    return summary


def write_estimates_of(directory: Path, seed: int, shared: float, own: float) -> None:
    """A gain on each task with these standard deviations over rows, in percent."""
    generator = np.random.default_rng(0)
    of_rows = generator.choice([-1.0, 1.0], size=(BUCKETS, 2)) * shared
    of_rows += np.random.default_rng(seed + 1).choice([-1.0, 1.0], size=(BUCKETS, 2)) * own
    nothing = Estimates(np.full(2, 0.9), np.zeros((BUCKETS, 2)))
    arm = Estimates(np.full(2, 0.9), of_rows / 100 / np.sqrt(BUCKETS))
    write_estimates(
        directory / f"seed-{seed}.npz",
        {name: EvaluationEstimates({"ne": ne}, {}) for name, ne in (("mean", nothing), ("x", arm))},
    )


def gains_of(directory: Path, **options: Any) -> dict[str | None, dict[str, Any]]:
    gains = analyse_power(PowerOptions(run=directory, **options))["gains"]
    return {gain["task"]: gain for gain in gains}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Three seeds."""
    values = [(0.1, 1.0), (0.2, 3.0), (0.3, 2.0)]
    return write_run(tmp_path / "run", [counted(seed, gains) for seed, gains in enumerate(values)])


def test_of_committed_results_the_seeds_are_those_on_their_rows() -> None:
    """The numbers in docs/statistics.md, without errors over rows."""
    gains = gains_of(FEEDS, arms=("multibalance_recommended",))
    needed = {task: gain["seeds_needed_on_these_rows"] for task, gain in gains.items()}
    assert (needed["long_view"], needed["like"], needed["comment"]) == (7, 80, 123)
    assert {gain["seeds_needed"] for gain in gains.values()} == {None}
    assert not any(gain["rows_known"] for gain in gains.values())


def test_seeds_and_rows_are_measured(run: Path) -> None:
    for seed in range(3):
        write_estimates_of(run, seed, shared=0.05, own=0.02)
    gains = gains_of(run)
    assert list(gains) == [None, "click", "buy"]
    for task, spread, rows, positives in (("click", 0.1, 8000, 2000), ("buy", 1.0, 2000, 50)):
        gain = gains[task]
        assert (gain["rows"], gain["positives"], gain["rows_known"]) == (rows, positives, True)
        assert np.hypot(gain["noise"]["seed"], gain["noise"]["own_rows"]) == pytest.approx(spread)
        assert gain["noise"]["shared_rows"] == pytest.approx(0.05, rel=0.05)
        assert gain["noise"]["own_rows"] == pytest.approx(0.02, rel=0.1)
    # The average of gains of 0.55, 1.6 and 1.15 %; rows of its two tasks are independent here.
    average = gains[None]
    assert np.hypot(average["noise"]["seed"], average["noise"]["own_rows"]) == pytest.approx(
        np.std([0.55, 1.6, 1.15], ddof=1)
    )
    assert average["noise"]["shared_rows"] == pytest.approx(0.05 / np.sqrt(2), rel=0.1)
    weighted = gains_of(run, task_weights=("click=1", "buy=3"))[None]
    assert weighted["noise"]["seed"] > average["noise"]["seed"]


def test_without_estimates_of_rows_it_says_so(run: Path) -> None:
    write_estimates_of(run, 0, 0.05, 0.02)
    report = analyse_power(PowerOptions(run=run))
    assert "other rows" in report["notes"][0]
    assert {gain["detectable"] for gain in report["gains"]} == {None}
    lines = format_power(report).splitlines()
    [click] = [line for line in lines if line.startswith("click")]
    assert click.split()[:4] == ["click", "8,000", "2,000", "0.100"]
    assert click.split()[-1] == "?"


def test_a_task_that_exploded_is_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [counted(0, (0.1, None)), counted(1, (0.2, 1.0))])
    report = analyse_power(PowerOptions(run=run))
    assert [gain["task"] for gain in report["gains"]] == ["click"]
    assert mentions(report["notes"][0], "x", "buy", "left out")


def test_one_seed_says_nothing_of_seeds(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [counted(0, (0.1, 1.0))])
    with pytest.raises(ValueError, match=naming("arm 'x'", 1)):
        analyse_power(PowerOptions(run=run))


def test_unknown_arms_and_weights_are_refused(run: Path) -> None:
    with pytest.raises(ValueError, match=naming("'y'", "['x']")):
        analyse_power(PowerOptions(run=run, arms=("y",)))
    with pytest.raises(ValueError, match=naming("task_weights")):
        analyse_power(PowerOptions(run=run, task_weights=("click=1",)))
    with pytest.raises(ValueError, match=naming("seed-S.json")):
        analyse_power(PowerOptions(run=FEEDS, task_weights=("click=1",)))


def test_a_seed_without_counts_is_refused(run: Path) -> None:
    summary = json.loads((run / "seed-0.json").read_text())
    del summary["arms"]["x"]["tasks"]["buy"]["positives"]
    (run / "seed-0.json").write_text(json.dumps(summary))
    with pytest.raises(ValueError, match=r"tasks\.buy: .*positives"):
        analyse_power(PowerOptions(run=run))


def test_the_table_in_the_documents_is_that_of_its_run() -> None:
    report = json.loads((ROOT / "docs/results/statistics/power.json").read_text())
    [table] = [part for part in format_power(report).split("\n\n") if part.startswith("multibalance_recommended")]
    assert table in (ROOT / "docs/statistics.md").read_text()
