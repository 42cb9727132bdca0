"""MLflow, TensorBoard, Weights & Biases: what reaches them, and how they go on after a restart."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dlrm_mtl.monitoring.logger import LoggedArm, Logger, load_logger

ARM = "multibalance:beta=0.1"
OPTIONS = {"batch_size": 64, "arms": ["mean", ARM], **{f"option.{number}": number for number in range(100)}}
VALUES = {"train/window/click/ne": 0.9, "train/task_weights/a task: ü & (b)": 0.25}


@pytest.fixture
def arm(tmp_path: Path) -> LoggedArm:
    directory = tmp_path / "seed-0" / "multibalance"
    directory.mkdir(parents=True)
    return LoggedArm("seed-0/multibalance", ARM, 0, directory, 0, OPTIONS)


def log_with_a_restart(make: Callable[[], Logger], arm: LoggedArm) -> None:
    """Steps 10 and 20, interrupted, then from 10 on to 20 and 30."""
    first, again = make(), make()
    first.begin(arm)
    for step in (10, 20):
        first.log(arm, step, {name: value + step for name, value in VALUES.items()})
    first.end(arm, "interrupted")
    arm = replace(arm, step=10)
    again.begin(arm)
    for step in (20, 30):
        again.log(arm, step, {name: value + step for name, value in VALUES.items()})
    again.end(arm, "finished")


def test_mlflow(arm: LoggedArm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/store")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "feeds")
    log_with_a_restart(lambda: load_logger("dlrm_mtl.monitoring.mlflow:MLflow"), arm)
    from mlflow import MlflowClient

    client = MlflowClient()
    experiment = client.get_experiment_by_name("feeds")
    [run] = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.info.run_name) == ("FINISHED", arm.name)
    assert run.data.params == {"arm": ARM, "seed": "0"} | {name: str(value) for name, value in OPTIONS.items()}
    history = client.get_metric_history(run.info.run_id, "train/window/click/ne")
    assert {(point.step, point.value) for point in history} == {(10, 10.9), (20, 20.9), (30, 30.9)}
    assert run.data.metrics["train/task_weights/a task: ü _ _b_"] == 30.25


def test_tensorboard(arm: LoggedArm) -> None:
    log_with_a_restart(lambda: load_logger("dlrm_mtl.monitoring.tensorboard:TensorBoard"), arm)
    events = EventAccumulator(str(arm.directory / "tensorboard"))
    events.Reload()
    points = [(event.step, event.value) for event in events.Scalars("train/window/click/ne")]
    assert [step for step, _ in points] == [10, 20, 30], "step 20 of the first start is purged"
    assert [value for _, value in points] == pytest.approx([10.9, 20.9, 30.9])


def test_the_example_for_weights_and_biases(arm: LoggedArm, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[dict[str, Any]] = []

    def init(**options: Any) -> SimpleNamespace:
        run: dict[str, Any] = {**options, "logged": {}}
        runs.append(run)
        return SimpleNamespace(
            log=lambda values, step: run["logged"].update({step: values}),
            finish=lambda exit_code: run.update(exit_code=exit_code),
        )

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Run=SimpleNamespace))  # type: ignore[arg-type]
    monkeypatch.delitem(sys.modules, "docs.examples.wandb_logger", raising=False)
    log_with_a_restart(lambda: load_logger("docs.examples.wandb_logger:WeightsAndBiases"), arm)
    monkeypatch.delitem(sys.modules, "docs.examples.wandb_logger")
    first, again = runs
    assert first["id"] == again["id"], "one run of theirs"
    assert first["config"] == {**OPTIONS, "arm": ARM, "seed": 0}
    assert (sorted(first["logged"]), sorted(again["logged"])) == ([10, 20], [20, 30])
    assert again["logged"][30]["train/window/click/ne"] == 30.9
    assert (first["exit_code"], again["exit_code"]) == (1, 0)
