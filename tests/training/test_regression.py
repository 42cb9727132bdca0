"""A model with regression tasks and row weights, from training to predictions, an export and another data set."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.distributed.checkpoint_directory import list_checkpoints
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.export_options import ExportOptions
from dlrm_mtl.inference.evaluation.fitting import check_fit
from dlrm_mtl.inference.stored_model import open_stored_model
from dlrm_mtl.model_schema import Task
from dlrm_mtl.run_config import RunConfig
from dlrm_mtl.schema import read_schema
from dlrm_mtl.serving.exported import open_export
from dlrm_mtl.serving.served_model import model_inputs
from dlrm_mtl.serving.writing import write_export
from dlrm_mtl.training.session import prepare
from tests.distributed.training import run_config
from tests.inference.predictions import predict_rows, read_rows
from tests.inference.training import in_order, load_and_predict, train_and_predict
from tests.json_edits import Change, edit, put
from tests.messages import mentions, naming
from tests.ranks import RankPool
from tests.serving.models import real_batches
from tests.training.resuming import run_part
from tests.training.runs import error_of_preparing

ARMS = ("mean", "single_task", "uncertainty")
MODEL = ModelConfig(embedding_dim=4, bottom_mlp=(4,), head_mlp=())
NAMES = ["p_click", "predicted_play", "p_buy", "predicted_spend"]


@pytest.fixture(scope="module")
def trained(
    regression_dataset: Path, rank_pool: RankPool, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, npt.NDArray[np.float64]]]:
    """A checkpoint that two ranks wrote, and the predictions (N, M) of the eval split by arm."""
    config = run_config(regression_dataset, log_every=6, model=MODEL)
    out = tmp_path_factory.mktemp("run")
    parts = rank_pool.run(2, train_and_predict, config, out, ARMS)
    [checkpoint] = list_checkpoints(out / "checkpoints")
    predicted = {arm: in_order([part[index] for part in parts]) for index, arm in enumerate(ARMS)}
    for each in predicted.values():
        each[:, [0, 2]] = 1 / (1 + np.exp(-each[:, [0, 2]]))
    return checkpoint, predicted


def changed_copy(data: Path, directory: Path, *changes: Change) -> Path:
    copy = Path(shutil.copytree(data, directory / "other"))
    for change in changes:
        edit(copy / "schema.json", change)
    return copy


@pytest.mark.parametrize("arm", ARMS)
def test_predictions_are_in_the_label_s_unit(
    trained: tuple[Path, dict[str, Any]], regression_dataset: Path, rank_pool: RankPool, tmp_path: Path, arm: str
) -> None:
    checkpoint, predicted = trained
    options = {"checkpoint": checkpoint, "data": regression_dataset, "out": tmp_path / "out", "arm": arm}
    assert rank_pool.run(1, predict_rows, {**options, "columns": ("play",)}) == [""]
    table = read_rows(tmp_path / "out")
    assert table.column_names == ["play", *NAMES]
    found = np.stack([table[name].to_numpy() for name in NAMES], axis=1)
    np.testing.assert_allclose(found, predicted[arm], rtol=1e-6, atol=1e-6)
    if arm != "uncertainty":
        labels = table["play"].to_numpy()
        assert abs(found[:, 1].mean() - labels.mean()) < 0.3 * labels.std()
    manifest = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert manifest["probabilities"] == {"p_click": ["click"], "p_buy": ["buy"]}
    assert manifest["regressions"] == {
        "predicted_play": {"task": "play", "unit": "seconds"},
        "predicted_spend": {"task": "spend", "unit": "euros"},
    }
    assert manifest["given"] == {"p_buy": "click", "predicted_spend": "click"}


@pytest.mark.parametrize(("arm", "precision"), [("mean", "int8"), ("single_task", "float")])
def test_an_export_predicts_the_same(
    trained: tuple[Path, dict[str, Any]], regression_dataset: Path, tmp_path: Path, arm: str, precision: Any
) -> None:
    checkpoint, predicted = trained
    write_export(ExportOptions(checkpoint, tmp_path / "export", arm, regression_dataset, precision))
    export = open_export(tmp_path / "export")
    outputs = [(output.name, output.kind, output.unit) for output in export.manifest.outputs]
    assert outputs == [
        ("click", "binary", ""),
        ("play", "regression", "seconds"),
        ("buy", "binary", ""),
        ("spend", "regression", "euros"),
    ]
    [batch] = real_batches(regression_dataset, 200)
    tolerance = 1e-6 if precision == "float" else 1e-2
    np.testing.assert_allclose(export(*model_inputs(batch)).numpy(), predicted[arm], rtol=tolerance, atol=tolerance)
    if precision == "int8":
        assert export.manifest.quantization is not None
        of_play = export.manifest.quantization.ne["play"]
        assert 0 < of_play.float_tables < 1  # type: ignore[operator]
        assert of_play.int8_tables == pytest.approx(of_play.float_tables, abs=0.01)


def session_tasks(ranks: Ranks, config: RunConfig) -> tuple[Task, ...]:
    return prepare(config, ["mean"], ranks).source.dataset.schema.tasks


def test_a_model_keeps_mean_and_deviation_of_the_labels_that_it_began_with(
    trained: tuple[Path, dict[str, Any]], regression_dataset: Path, rank_pool: RankPool, tmp_path: Path
) -> None:
    checkpoint, predicted = trained
    data = changed_copy(
        regression_dataset,
        tmp_path,
        put("tasks", 1, "mean", 31.0),
        put("tasks", 1, "deviation", 9.0),
        put("tasks", 1, "huber", 2.0),
    )
    config = run_config(data, out=tmp_path / "run", model=MODEL, init_from=checkpoint)
    [tasks] = rank_pool.run(1, session_tasks, config)
    before, now = read_schema(regression_dataset).tasks[1], read_schema(data).tasks[1]
    assert (now.mean, now.deviation) == (31.0, 9.0)
    assert (tasks[1].mean, tasks[1].deviation, tasks[1].huber) == (before.mean, before.deviation, 2.0)
    logits = in_order(rank_pool.run(1, load_and_predict, checkpoint, "mean", data))
    np.testing.assert_allclose(logits[:, 1], predicted["mean"][:, 1], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (put("tasks", 1, "unit", "minutes"), ("'play'", "unit", "'minutes'", "'seconds'")),
        (
            put("tasks", 1, {"name": "play", "label": "like", "base_rate": 0.5}),
            ("'play'", "kind", "'binary'", "'regression'"),
        ),
    ],
)
def test_labels_of_another_meaning_are_refused(
    trained: tuple[Path, dict[str, Any]],
    regression_dataset: Path,
    rank_pool: RankPool,
    tmp_path: Path,
    change: Change,
    named: tuple[str, ...],
) -> None:
    checkpoint, _ = trained
    data = changed_copy(regression_dataset, tmp_path, change)
    config = run_config(data, out=tmp_path / "run", model=MODEL, init_from=checkpoint)
    [refused] = rank_pool.run(1, error_of_preparing, config, ["mean"])
    assert mentions(refused, data, *named, checkpoint)
    with pytest.raises(ValueError, match=naming(data, *named)):
        check_fit([open_stored_model(checkpoint, "mean")], data, read_schema(data))


def test_a_run_does_not_go_on_in_another_unit(regression_dataset: Path, rank_pool: RankPool, tmp_path: Path) -> None:
    def part(data: Path) -> Any:
        config = run_config(data, log_every=2, model=MODEL)
        [result] = rank_pool.run(1, run_part, config, tmp_path / "run", ["mean"], 2)
        return result

    assert not isinstance(part(regression_dataset), str)
    refused = part(changed_copy(regression_dataset, tmp_path, put("tasks", 3, "deviation", 9.0)))
    assert mentions(refused, "'spend'", 9.0)
