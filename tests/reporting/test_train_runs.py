"""Runs of one arm, joined with each other and with comparisons."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlrm_mtl.files import write_json
from dlrm_mtl.metrics.estimates_file import write_estimates
from dlrm_mtl.reporting.comparison import INDEPENDENT_ROWS
from dlrm_mtl.reporting.runs.join import join_runs
from dlrm_mtl.reporting.runs.report_data import Record, ReportData
from dlrm_mtl.reporting.runs.train_runs import read_job
from tests.messages import naming
from tests.reporting.estimates import drawn_estimates
from tests.reporting.runs import CONFIG, ENVIRONMENT, summarized, window, write_run

NES = {"mean": (0.9, 0.9), "x": (0.8, 0.85), "y": (0.7, 0.95)}


def train(
    directory: Path, arm: str, seed: int = 0, speed: float = 1000.0, clusters: str = INDEPENDENT_ROWS, **config: Any
) -> Path:
    """Writes the files of ``dlrm_mtl.train``."""
    folder = directory / arm
    folder.mkdir(parents=True)
    write_json(directory / "config.json", {**CONFIG, "out": str(directory), "arm": arm, "seed": seed, **config})
    write_json(directory / "environment.json", ENVIRONMENT)
    values = [value + 0.01 * seed for value in NES[arm]]
    on_data = {"data_set": "shop", "clusters": clusters, "bayes_ne": {"click": 0.6, "buy": None}}
    write_json(directory / "result.json", {**on_data, **summarized(seed, {arm: values}, speed=speed)})
    (folder / "metrics.jsonl").write_text(json.dumps(window(10, ("click", "buy"), seed)) + "\n")
    return directory


def compare(directory: Path, arms: Sequence[str], seeds: Sequence[int]) -> Path:
    nes = [{arm: [value + 0.01 * seed for value in NES[arm]] for arm in arms} for seed in seeds]
    return write_run(directory, [summarized(seed, each) for seed, each in zip(seeds, nes, strict=True)])


def join(*directories: Path, control: str | None = None) -> Record:
    return join_runs([read_job(directory) for directory in directories], control)


def gains(comparison: Record, arm: str) -> list[float]:
    return [task["ne_gain_percent"]["mean"] for task in comparison["arms"][arm]["tasks"].values()]


def test_runs_of_several_arms_and_seeds_are_a_comparison(tmp_path: Path) -> None:
    """As if they had been trained together, but for the speed."""
    runs = [train(tmp_path / f"{arm}-{seed}", arm, seed, clusters="user") for arm in NES for seed in range(2)]
    joined = join(*runs)
    together = join(compare(tmp_path / "together", list(NES), range(2)))
    assert (joined["control"], joined["data_set"], joined["clusters"]) == ("mean", "shop", "user")
    assert (joined["bayes_ne"], joined["planned_seeds"], joined["added_seeds"]) == ({"click": 0.6}, [0, 1], {})
    for arm in NES:
        assert joined["arms"][arm]["seeds"] == [0, 1]
        assert joined["arms"][arm]["tasks"] == together["arms"][arm]["tasks"]
    data = ReportData.of([read_job(run) for run in runs], joined)
    assert [[len(windows) for windows in data.windows(arm)] for arm in NES] == [[1, 1]] * 3


def test_a_run_beside_a_comparison(tmp_path: Path) -> None:
    run, comparison = train(tmp_path / "y", "y", speed=3000.0), compare(tmp_path / "cmp", ["mean", "x"], range(2))
    joined = join(comparison, run)
    assert {name: arm["seeds"] for name, arm in joined["arms"].items()} == {"mean": [0, 1], "x": [0, 1], "y": [0]}
    assert gains(joined, "y") == pytest.approx([20, -5])
    speed = joined["arms"]["y"]["qps"]
    assert (speed["median"], speed["windows"]) == (4500.0, 2)
    assert speed["change_percent"] == {"median": pytest.approx(200), "low": None, "high": None}
    other = join(run, comparison, control="x")
    assert gains(other, "y") == pytest.approx([10, -10])


def test_intervals_are_over_the_same_rows(tmp_path: Path) -> None:
    """From result.npz and seed-S.npz."""
    run, comparison = train(tmp_path / "y", "y"), compare(tmp_path / "cmp", ["mean", "x"], [0])
    assert join(comparison, run)["arms"]["y"]["tasks"]["click"]["ne_gain_percent"]["covers"] is None
    drawn = drawn_estimates(NES)
    write_estimates(run / "result.npz", {"y": drawn.pop("y")})
    write_estimates(comparison / "seed-0.npz", drawn)
    gain = join(comparison, run)["arms"]["y"]["tasks"]["click"]["ne_gain_percent"]
    assert gain["covers"] == "rows"
    assert np.isfinite(gain["low"])


def test_what_cannot_be_joined_is_named(tmp_path: Path) -> None:
    x, y = train(tmp_path / "x", "x"), train(tmp_path / "y", "y", seed=1)
    with pytest.raises(ValueError, match=naming(y, "'y'", "seed 1", "'x'")):
        join(x, y)
    with pytest.raises(ValueError, match=naming(x, "'x'")):
        join(x)
    with pytest.raises(ValueError, match=naming(tmp_path / "comparison.json", "result.json")):
        join(tmp_path)
    again = shutil.copytree(x, tmp_path / "again")
    with pytest.raises(ValueError, match=naming(again, "'x'", "seed 0", x)):
        join(train(tmp_path / "mean", "mean"), x, again)
    other = train(tmp_path / "other", "mean", batch_size=32)
    with pytest.raises(ValueError, match=naming("batch_size", 32, 64)):
        join(x, other)
