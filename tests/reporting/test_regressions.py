"""A comparison with a binary and a regression task, from its predictions to comparison.json and the pages."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dlrm_mtl.data.context import Context
from dlrm_mtl.files import write_json
from dlrm_mtl.metrics.estimates_file import write_estimates
from dlrm_mtl.metrics.evaluator import Evaluator
from dlrm_mtl.model_schema import Task
from dlrm_mtl.models.ranker import Predictions
from dlrm_mtl.power_analysis.options import PowerOptions
from dlrm_mtl.power_analysis.report import analyse_power
from dlrm_mtl.reporting.html import write_run_report
from dlrm_mtl.reporting.runs.join import join_runs
from dlrm_mtl.reporting.runs.report_data import read_run
from dlrm_mtl.reporting.seed_summary import summarize_seed
from dlrm_mtl.reporting.streams.report import write_stream_report
from dlrm_mtl.reporting.streams.stream_file import StreamResults
from dlrm_mtl.segments import Segment
from dlrm_mtl.training.loop import ArmResult
from tests.metrics.test_sums import keys_of
from tests.reporting.runs import write_run

ROWS = 2000
TASKS = (Task("click", "click", base_rate=0.5, weight="w"), Task("play", "play", kind="regression", weight="w"))
NAMES = tuple(task.name for task in TASKS)
ARMS = {"mean": 1.0, "balanced": 0.8}
"""The noise of their predictions."""
SEEDS = (0, 1, 2)


def simulate(noise: float, seed: int, mean: float = 5.0) -> Predictions:
    generator = torch.Generator().manual_seed(7)
    truth, weights = torch.randn(ROWS, 2, generator=generator), torch.rand(ROWS, 2, generator=generator)
    click = torch.rand(ROWS, generator=generator) < torch.sigmoid(truth[:, 0])
    labels = torch.stack([click.float(), mean + truth[:, 1]], dim=1)
    generator.manual_seed(seed)
    logits = truth + noise * torch.randn(ROWS, 2, generator=generator) + torch.tensor([0.0, mean])
    rows = torch.arange(ROWS)
    return Predictions(logits, labels, weights, rows, torch.stack([keys_of(rows), rows % 2], dim=1))


def arm_result(*batches: Predictions) -> ArmResult:
    context = Context("", (Segment("hour", ("0", "1")),))
    evaluator = Evaluator(TASKS, context, len(batches) * ROWS, torch.device("cpu"))
    for batch in batches:
        evaluator.update(batch)
    return ArmResult(evaluator.evaluate(), [100.0, 110.0], skipped_steps=0, rows_lost=0)


def summaries_of(results: Mapping[int, Mapping[str, ArmResult]]) -> list[dict[str, Any]]:
    return [json.loads(json.dumps(summarize_seed(seed, NAMES, arms))) for seed, arms in results.items()]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("regressions") / "run"
    results = {seed: {arm: arm_result(simulate(noise, seed)) for arm, noise in ARMS.items()} for seed in SEEDS}
    write_run(directory, summaries_of(results), NAMES)
    for seed, arms in results.items():
        write_estimates(directory / f"seed-{seed}.npz", {arm: result.evaluation for arm, result in arms.items()})
    write_json(directory / "comparison.json", {"data_set": "shop", **join_runs([read_run(directory)])})
    return directory


def of_task(run: Path, task: str, arm: str = "balanced") -> dict[str, Any]:
    record: dict[str, Any] = json.loads((run / "comparison.json").read_text())["arms"][arm]["tasks"][task]
    return record


def seeds_of(run: Path, key: str, arm: str) -> Sequence[float]:
    files = (run / f"seed-{seed}.json" for seed in SEEDS)
    return [json.loads(file.read_text())["arms"][arm]["tasks"]["play"][key] for file in files]


def test_a_regression_has_nmse_where_a_binary_task_has_ne(run: Path) -> None:
    click, play = of_task(run, "click"), of_task(run, "play")
    assert play["kind"] == "regression"
    assert not {"ne", "auc", "calibration", "ne_gain_percent"} & play.keys()
    assert not {"kind", "nmse", "mae", "xauc", "mean_error"} & click.keys()
    for key in ("nmse", "mae", "xauc"):
        assert play[key] == pytest.approx(np.mean(seeds_of(run, key, "balanced")), rel=1e-9)
    assert play["nmse"] == pytest.approx(0.8**2, rel=0.1)
    assert play["mae"] == pytest.approx(0.8 * np.sqrt(2 / np.pi), rel=0.1)
    assert play["mean_error"] == max(seeds_of(run, "mean_error", "balanced"), key=abs)
    assert [one["seed"] for one in play["mean_error_by_seed"]] == list(SEEDS)
    assert play["exploded_seeds"] == []


def test_its_gain_is_judged_and_averaged_as_one_in_ne(run: Path) -> None:
    play, click = of_task(run, "play"), of_task(run, "click")
    gains = 100 * (np.array(seeds_of(run, "nmse", "mean")) - seeds_of(run, "nmse", "balanced"))
    gain = play["nmse_gain_percent"]
    assert gain["mean"] == pytest.approx(gains.mean(), rel=1e-9)
    assert gain["covers"] == "seeds and rows"
    assert gain["verdict"] == "gain"
    comparison = json.loads((run / "comparison.json").read_text())
    average = comparison["arms"]["balanced"]["average_ne_gain_percent"]["mean"]
    assert average == pytest.approx((gain["mean"] + click["ne_gain_percent"]["mean"]) / 2, rel=1e-9)
    assert play["xauc_gain_percent"]["mean"] == pytest.approx(
        100 * np.mean(np.array(seeds_of(run, "xauc", "balanced")) - seeds_of(run, "xauc", "mean")), rel=1e-6
    )
    of_value = comparison["arms"]["balanced"]["segments"]["hour"]["1"]["tasks"]
    assert of_value["play"]["nmse_gain_percent"]["mean"] == pytest.approx(gain["mean"], rel=0.2)
    assert of_task(run, "play", "mean")["nmse_gain_percent"]["mean"] == 0


def test_pages_say_which_losses_are_nmse(run: Path) -> None:
    write_run_report(run)
    for page in ("report.md", "report.html"):
        text = (run / page).read_text()
        assert "NE or NMSE" in text
        assert "play (NMSE)" in text
        assert f"{of_task(run, 'play')['nmse']:.4f}" in text
        assert f"{of_task(run, 'play')['xauc']:.4f}" in text


def test_the_noise_of_its_gains_is_measured(run: Path) -> None:
    gains = {gain["task"]: gain for gain in analyse_power(PowerOptions(run=run))["gains"]}
    assert gains["play"]["rows"] == ROWS
    assert gains["play"]["positives"] is None
    assert gains["play"]["noise"]["shared_rows"] > 0


def test_an_exploded_regression_has_no_gain(run: Path, tmp_path: Path) -> None:
    summaries = [json.loads((run / f"seed-{seed}.json").read_text()) for seed in SEEDS]
    for key in ("nmse", "mae", "xauc", "mean_error", "nmse_gain_percent"):
        summaries[1]["arms"]["balanced"]["tasks"]["play"][key] = None
    directory = write_run(tmp_path / "run", summaries, NAMES)
    play = of_task(directory, "play")
    assert play["exploded_seeds"] == [1]
    assert play["nmse_gain_percent"] is None
    assert play["nmse"] is None
    write_run_report(directory)
    assert "NEX" in (directory / "report.md").read_text()


def test_the_losses_of_a_stream_are_those_of_all_its_rows(tmp_path: Path) -> None:
    """Days whose mean labels differ, and rows with weights."""
    days = {"0000-a": 4.0, "0001-b": 7.0}
    batches = {
        seed: {arm: [simulate(noise, seed, mean) for mean in days.values()] for arm, noise in ARMS.items()}
        for seed in SEEDS
    }
    for number, name in enumerate(days):
        of_day = {seed: {arm: arm_result(own[number]) for arm, own in arms.items()} for seed, arms in batches.items()}
        directory = write_run(tmp_path / "days" / name, summaries_of(of_day), NAMES)
        facts = {"data_set": "shop", "rows": ROWS, "tasks": NAMES, "evaluated": NAMES}
        write_json(directory / "day.json", facts)
    write_json(tmp_path / "config.json", {"data": [], "arms": list(ARMS), "seeds": len(SEEDS)})
    write_stream_report(StreamResults(tmp_path))
    stream = json.loads((tmp_path / "stream.json").read_text())
    for arm, record in stream["arms"].items():
        together = [arm_result(*batches[seed][arm]).evaluation.tasks for seed in SEEDS]
        losses = np.array([[task.normalized_loss for task in of_seed] for of_seed in together]).mean(axis=0)
        found = record["tasks"]["click"]["ne"], record["tasks"]["play"]["nmse"]
        assert found == pytest.approx(losses, rel=1e-6)
    gains = [day["arms"]["balanced"]["tasks"]["play"]["nmse_gain_percent"]["mean"] for day in stream["days"]]
    assert stream["arms"]["balanced"]["tasks"]["play"]["nmse_gain_percent"]["mean"] == pytest.approx(np.mean(gains))
    assert "play (NMSE)" in (tmp_path / "report.md").read_text()
