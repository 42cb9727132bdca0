"""A stored model predicts what the trained one did, on any ranks, from a checkpoint of any ranks and plan."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.distributed.checkpoint_directory import list_checkpoints, read_manifest, write_manifest
from dlrm_mtl.inference.stored_model import open_stored_model
from dlrm_mtl.schema import read_schema
from tests.distributed.training import run_config
from tests.inference.training import in_order, load_and_predict, train_and_predict
from tests.messages import naming
from tests.ranks import RankPool

ARMS = ["mean", "uncertainty", "multibalance:level=embedding", "single_task"]


@pytest.fixture(scope="module")
def trained(small_dataset: Path, rank_pool: RankPool, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A checkpoint of two ranks, and the logits of each arm."""
    directory = tmp_path_factory.mktemp("run")
    config = run_config(small_dataset, log_every=3, model=ModelConfig(relation="esmm", head_mlp=(8,)))
    parts = rank_pool.run(2, train_and_predict, config, directory, ARMS)
    [path] = list_checkpoints(directory / "checkpoints")
    return path, {arm: in_order([part[index] for part in parts]) for index, arm in enumerate(ARMS)}


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("arm", ARMS)
def test_it_predicts_what_the_trained_model_did(
    trained: tuple[Path, Any], small_dataset: Path, rank_pool: RankPool, arm: str, world_size: int
) -> None:
    path, expected = trained
    logits = in_order(rank_pool.run(world_size, load_and_predict, path, arm, small_dataset))
    assert logits.shape == (200, 3)
    np.testing.assert_allclose(logits, expected[arm], rtol=1e-6, atol=1e-6)


OTHER_MODELS = {
    "stem": (ModelConfig(sharing="stem", relation="esmm", expert_mlp=(8,)), "row_wise"),
    "own class": (ModelConfig(sharing="docs.examples.own_architecture:SharedAndOwn"), "column_wise"),
    "dcn": (ModelConfig("low_rank_dcn", numeric_frequencies=3, sharing="ple", expert_mlp=(8, 6)), "mixed"),
}


@pytest.mark.parametrize("model", OTHER_MODELS)
def test_any_model_from_any_plan(small_dataset: Path, rank_pool: RankPool, tmp_path: Path, model: str) -> None:
    config, kind = OTHER_MODELS[model]
    run = run_config(small_dataset, log_every=2, model=config, bf16=model == "dcn")
    parts = rank_pool.run(2, train_and_predict, run, tmp_path, ["mean"], kind)
    logits = in_order(rank_pool.run(1, load_and_predict, tmp_path, "mean", small_dataset))
    np.testing.assert_allclose(logits, in_order([part[0] for part in parts]), rtol=1e-5, atol=1e-6)


def test_the_manifest_says_what_the_model_is(trained: tuple[Path, Any], small_dataset: Path) -> None:
    path, _ = trained
    stored = open_stored_model(path.parents[1], "single_task")
    schema = read_schema(small_dataset)
    assert (stored.path, stored.step, stored.arm, stored.note) == (path, 3, "single_task", "")
    assert stored.schema == schema.of_model
    assert stored.config == ModelConfig(relation="esmm", head_mlp=(8,))
    assert [part.schema.task_names for part in stored.parts] == [("click",), ("like",), ("buy",)]
    first = open_stored_model(path)
    assert first.arm == "mean"
    assert "'mean'" in first.note
    assert ", ".join(ARMS) in first.note


RECORDED = ("model", "bf16", "trained_on")


@pytest.fixture
def older(trained: tuple[Path, Any], small_dataset: Path, tmp_path: Path) -> Path:
    """The checkpoint as an earlier version wrote it, in a run's directory."""
    path = tmp_path / "run" / "checkpoints" / trained[0].name
    shutil.copytree(trained[0], path)
    write_manifest(path, {key: value for key, value in read_manifest(path).items() if key not in RECORDED})
    config = f'{{"data": "{small_dataset}", "model": {{"relation": "esmm", "head_mlp": [8]}}, "arm": "mean"}}'
    (tmp_path / "run" / "config.json").write_text(config)
    return path


def test_a_checkpoint_of_an_earlier_version(trained: tuple[Path, Any], older: Path, tmp_path: Path) -> None:
    now, before = open_stored_model(trained[0]), open_stored_model(older)
    assert (before.config, before.bf16, before.schema) == (now.config, now.bf16, now.schema)
    moved = older.rename(tmp_path / "step-00000003")
    with pytest.raises(ValueError, match=naming(str(moved), "config.json")):
        open_stored_model(moved)


def test_seeds_are_told_apart(trained: tuple[Path, Any], tmp_path: Path) -> None:
    run = tmp_path / "comparison"
    (run / "seed-0").mkdir(parents=True)
    with pytest.raises(ValueError, match=naming(str(run), "--keep-models")):
        open_stored_model(run)
    shutil.copytree(trained[0], run / "seed-0" / "checkpoints" / trained[0].name)
    assert open_stored_model(run).path.parent == run / "seed-0" / "checkpoints"
    shutil.copytree(run / "seed-0", run / "seed-1")
    with pytest.raises(ValueError, match=naming(str(run), "2 seeds", str(run / "seed-0"))):
        open_stored_model(run)
    assert open_stored_model(run / "seed-1").step == 3


def lacks_a_task(manifest: dict[str, Any]) -> None:
    del manifest["trained_on"]["tasks"][0]


def other_heads(manifest: dict[str, Any]) -> None:
    manifest["model"]["head_mlp"] = [4]


def more_heads(manifest: dict[str, Any]) -> None:
    manifest["model"]["head_mlp"] = [8, 8]


def unknown_relation(manifest: dict[str, Any]) -> None:
    manifest["model"]["relation"] = "friendship"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lacks_a_task, ("trained_on", "'click'")),
        (unknown_relation, ("model.relation", "'friendship'")),
        (other_heads, ("0/model/dense_part.heads.heads.task_buy.0", "size [8]", "expected [4]")),
        (more_heads, ("0/model/dense_part.heads.heads.task_buy.1", "expected one")),
    ],
)
def test_a_manifest_of_another_model_is_refused(
    trained: tuple[Path, Any],
    small_dataset: Path,
    rank_pool: RankPool,
    tmp_path: Path,
    change: Callable[[dict[str, Any]], None],
    named: tuple[str, ...],
) -> None:
    path = tmp_path / trained[0].name
    shutil.copytree(trained[0], path)
    manifest = read_manifest(path)
    change(manifest)
    write_manifest(path, manifest)
    [error] = rank_pool.run(1, load_and_predict, path, "mean", small_dataset)
    assert isinstance(error, str)
    for part in (str(path), *named):
        assert part in error
