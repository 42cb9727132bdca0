"""A checkpoint is loaded where ids and dense values stand for the same, and refused where they do not."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlrm_mtl.config import ModelConfig, OptimizerConfig
from dlrm_mtl.distributed.checkpoint_directory import list_checkpoints, read_manifest, write_manifest
from dlrm_mtl.model_schema import Task
from tests.data.faults import destroy_a_page
from tests.datasets import TASKS, make_dataset
from tests.distributed.training import Weights, run_config
from tests.entry_points.processes import python
from tests.messages import mentions
from tests.ranks import RankPool
from tests.training import runs
from tests.training.resuming import Part, run_part

ARM = ["multibalance"]

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def checkpoint(small_dataset: Path, rank_pool: RankPool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run of one arm on the small data set."""
    return trained(rank_pool, small_dataset, tmp_path_factory.mktemp("run"), ["mean"])[0]


def trained(pool: RankPool, data: Path, directory: Path, arms: list[str]) -> tuple[Path, Part]:
    """A checkpoint after five steps, and what was trained."""
    [part] = pool.run(1, run_part, run_config(data, log_every=5), directory, arms, 5)
    assert isinstance(part, Part)
    [path] = list_checkpoints(directory / "checkpoints")
    return path, part


def started(pool: RankPool, data: Path, directory: Path, path: Path, arms: list[str]) -> Part | str:
    """A run that starts from a checkpoint, or why it does not."""
    [part] = pool.run(1, run_part, run_config(data, log_every=5, init_from=path), directory, arms, 0)
    return part


def changed_copy(data: Path, directory: Path, change: Change) -> Path:
    """A data set whose schema says something else."""
    copy = directory / "changed"
    shutil.copytree(data, copy)
    raw = json.loads((copy / "schema.json").read_text())
    change(raw)
    (copy / "schema.json").write_text(json.dumps(raw))
    return copy


def other_vocabulary(raw: dict[str, Any]) -> None:
    raw["fingerprints"]["tables"]["user"]["sha256"] = "fedcba9876543210" * 4


def larger_table(raw: dict[str, Any]) -> None:
    raw["categorical"][0]["cardinality"] = raw["fingerprints"]["tables"]["user"]["size"] = 60


def no_fingerprints(raw: dict[str, Any]) -> None:
    del raw["fingerprints"]


def larger_table_without_fingerprints(raw: dict[str, Any]) -> None:
    larger_table(raw)
    no_fingerprints(raw)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (other_vocabulary, ("table 'user'", "sha256 0123456789abcdef", "sha256 fedcba9876543210", "--encoding")),
        (larger_table, ("table 'user'", "50 ids", "60 ids", "--encoding")),
        (larger_table_without_fingerprints, ("table 'user'", "50 ids", "60 ids", "--encoding")),
        (
            lambda raw: raw["fingerprints"]["tables"]["item"].update(function="remainder"),
            ("table 'item'", "splitmix64", "remainder", "--ids hash, 30 ids"),
        ),
        (
            lambda raw: raw["fingerprints"]["tables"]["tags"].update(seed=5),
            ("table 'tags'", "seed 3", "seed 5", "--seed 3"),
        ),
        (
            lambda raw: raw["fingerprints"]["dense"]["age"].update(mean=2.75),
            ("dense feature 'age'", "- 2.5)", "- 2.75)", "--encoding"),
        ),
        (
            lambda raw: raw["dense"].reverse(),
            ("dense feature number 1", "'age'", "'price'", "in the same order"),
        ),
        (
            lambda raw: raw["categorical"].reverse(),
            ("categorical feature number 1", "'user' of table 'user'", "'tags' of table 'tags'", "in the same order"),
        ),
    ],
)
def test_other_meanings_are_refused(
    checkpoint: Path, small_dataset: Path, rank_pool: RankPool, tmp_path: Path, change: Change, named: tuple[str, ...]
) -> None:
    """One line with what differs, both fingerprints and ways out."""
    data = changed_copy(small_dataset, tmp_path, change)
    refused = started(rank_pool, data, tmp_path / "run", checkpoint, ["mean"])
    assert isinstance(refused, str)
    assert "\n" not in refused
    for part in (str(checkpoint), str(data), "start without --init-from", *named):
        assert part in refused


@pytest.fixture
def old_checkpoint(checkpoint: Path, tmp_path: Path) -> Path:
    """The checkpoint as it was written before checkpoints kept what ids stand for."""
    path = tmp_path / "old" / checkpoint.name
    shutil.copytree(checkpoint, path)
    write_manifest(path, {key: value for key, value in read_manifest(path).items() if key != "meaning"})
    return path


def test_what_is_from_before_is_loaded_and_said_to_be_so(
    checkpoint: Path, old_checkpoint: Path, small_dataset: Path, rank_pool: RankPool, tmp_path: Path
) -> None:
    old_data = changed_copy(small_dataset, tmp_path, no_fingerprints)
    for path, data, silent in (
        (old_checkpoint, small_dataset, [old_checkpoint]),
        (checkpoint, old_data, [old_data]),
        (old_checkpoint, old_data, [old_checkpoint, old_data]),
        (checkpoint, small_dataset, []),
    ):
        part = started(rank_pool, data, tmp_path / "run", path, ["mean"])
        assert isinstance(part, Part)
        said = [line for line in part.said.splitlines() if "fingerprint" in line]
        assert len(said) == bool(silent)
        for place in silent:
            assert mentions(said[0], place, "fingerprint", "table 'user', table 'item', table 'tags', dense")
        shutil.rmtree(tmp_path / "run")


def test_tables_of_other_sizes_are_refused_also_without_fingerprints(
    old_checkpoint: Path, small_dataset: Path, rank_pool: RankPool, tmp_path: Path
) -> None:
    data = changed_copy(small_dataset, tmp_path, larger_table_without_fingerprints)
    refused = started(rank_pool, data, tmp_path / "run", old_checkpoint, ["mean"])
    assert isinstance(refused, str)
    for part in (str(old_checkpoint), "table 'user' was 50 ids", "it is 60 ids", "start without --init-from"):
        assert part in refused


def test_it_is_refused_before_the_data_are_read(
    checkpoint: Path, small_dataset: Path, rank_pool: RankPool, tmp_path: Path
) -> None:
    data = changed_copy(small_dataset, tmp_path, other_vocabulary)
    destroy_a_page(data / "train" / "part-00000.parquet")  # which would be refused, if it were read
    config = replace(run_config(data, init_from=checkpoint), out=tmp_path / "run")
    [error] = rank_pool.run(1, runs.error_of_preparing, config, ["mean"])
    assert "table 'user'" in error
    too_large = replace(config, init_from=None, model=ModelConfig(embedding_dim=10**12, sharing="stem"))
    [error] = rank_pool.run(1, runs.error_of_preparing, too_large, ["mean"])
    assert mentions(error, "no sharding plan fits", "12 tables", "9 of them")
    assert not config.out.exists()


@pytest.mark.parametrize("change", [other_vocabulary, larger_table])
def test_a_run_does_not_go_on_with_other_ids(
    small_dataset: Path, rank_pool: RankPool, tmp_path: Path, change: Change
) -> None:
    """Its data set was prepared anew: the same names of shards, other bytes."""
    data = changed_copy(small_dataset, tmp_path, lambda raw: None)
    config = replace(run_config(data), out=tmp_path / "run")
    assert rank_pool.run(1, runs.error_of_preparing, config, ["mean"]) == [""]
    assert rank_pool.run(1, runs.error_of_preparing, config, ["mean"]) == [""]
    shutil.rmtree(data)
    changed_copy(make_dataset(tmp_path / "anew", row_group_rows=32), tmp_path, change)
    [error] = rank_pool.run(1, runs.error_of_preparing, config, ["mean"])
    for part in (f"{data}/schema.json", "table 'user'", "0123456789abcdef", "give another --out"):
        assert part in error


def models(part: Part, moment: str, arm: int) -> list[Weights]:
    """Weights and optimizer state of each model of an arm of a model per task, without positions of schedules."""
    found: dict[str, Weights] = {}
    for name, value in getattr(part, moment)[arm].items():
        model, _, rest = name.partition("/")
        if rest.startswith(("model/", "optimizer/")) and "__warmup" not in rest:
            found.setdefault(model, {})[rest] = value
    return [found[model] for model in sorted(found)]


def assert_same(found: Weights, expected: Weights) -> None:
    assert found.keys() == expected.keys()
    for name, value in found.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


@pytest.fixture(scope="module")
def model_per_task(
    small_dataset: Path, rank_pool: RankPool, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Part]:
    """A checkpoint of a model per task and a model of all tasks, and what was trained."""
    return trained(rank_pool, small_dataset, tmp_path_factory.mktemp("both"), ["single_task", "mean"])


def test_a_model_per_task_starts_from_that_of_its_task(
    model_per_task: tuple[Path, Part], rank_pool: RankPool, tmp_path: Path
) -> None:
    path, before = model_per_task
    data = make_dataset(tmp_path / "data", tasks=(Task("cart", "buy"), TASKS[2], TASKS[0]))
    part = started(rank_pool, data, tmp_path / "after", path, ["single_task"])
    [untouched] = rank_pool.run(1, run_part, run_config(data, log_every=5), tmp_path / "fresh", ["single_task"], 0)
    assert isinstance(part, Part)
    click, _, buy = models(before, "after", 0)
    new = models(part, "before", 0)
    fresh = models(untouched, "before", 0)
    assert_same(new[0], fresh[0])
    assert_same(new[1], buy)
    assert_same(new[2], click)
    trained_names = [name for name in click if name in fresh[2] and not np.array_equal(click[name], fresh[2][name])]
    assert sum("embedding_bags" in name for name in trained_names) >= 3
    assert sum("heads.task_click" in name for name in trained_names) >= 2
    assert mentions(part.said, "buy, click", "cart", "like")


def test_arms_start_from_a_model_of_the_kind_that_they_are(
    model_per_task: tuple[Path, Part], checkpoint: Path, small_dataset: Path, rank_pool: RankPool, tmp_path: Path
) -> None:
    """Whatever stands first in the checkpoint."""
    path, before = model_per_task
    part = started(rank_pool, small_dataset, tmp_path / "both", path, ["multibalance", "single_task"])
    assert isinstance(part, Part)
    joint = {name: value for name, value in before.after[1].items() if "/model/embedding_bags." in name}
    assert len(joint) >= 3
    for name, value in joint.items():
        np.testing.assert_array_equal(part.before[0][name], value, err_msg=name)
    for new, old in zip(models(part, "before", 1), models(before, "after", 0), strict=True):
        assert_same(new, old)
    # From a model of all tasks, each model takes what is shared and its own head.
    part = started(rank_pool, small_dataset, tmp_path / "from one", checkpoint, ["single_task"])
    assert isinstance(part, Part)
    for model in models(part, "before", 0):
        for name, value in joint.items():
            np.testing.assert_array_equal(model[name.partition("/")[2]], value, err_msg=name)


def test_models_per_task_alone_are_no_start_for_a_model_of_all(
    model_per_task: tuple[Path, Part], small_dataset: Path, rank_pool: RankPool, tmp_path: Path
) -> None:
    path = tmp_path / "alone" / model_per_task[0].name
    shutil.copytree(model_per_task[0], path)
    write_manifest(path, {**read_manifest(path), "arms": ["single_task"]})
    config = replace(run_config(small_dataset, init_from=path), out=tmp_path / "run")
    [error] = rank_pool.run(1, runs.error_of_preparing, config, ["mean"])
    for part in (str(path), "single_task", "'mean'"):
        assert part in error
    assert rank_pool.run(1, runs.error_of_preparing, config, ["single_task"]) == [""]


NEW_MODULES = {
    "mmoe": ("dense_part.heads.heads.task_cart", "dense_part.sharing.gates.task_cart"),
    "ple": (
        "dense_part.heads.heads.task_cart",
        "dense_part.sharing.last.gates.task_cart",
        "dense_part.sharing.last.own.task_cart",
        "dense_part.sharing.levels.0.gates.task_cart",
        "dense_part.sharing.levels.0.own.task_cart",
        "dense_part.sharing.levels.0.shared_gate.scores.task_cart",
    ),
}


@pytest.mark.parametrize("sharing", NEW_MODULES)
def test_a_new_task_brings_its_gates_and_experts(rank_pool: RankPool, tmp_path: Path, sharing: str) -> None:
    """Between two others of a funnel. All else goes on, optimizer and balancer by the names of tasks."""
    model = ModelConfig(sharing=sharing, relation="esmm", head_mlp=(8,), expert_mlp=(8, 6), shared_experts=2)
    new_task = Task("cart", "like", given="click")
    data = [
        make_dataset(tmp_path / name, tasks=tasks)
        for name, tasks in (("one", (TASKS[0], TASKS[2])), ("two", (TASKS[0], new_task, TASKS[2])))
    ]
    configs = [run_config(each, log_every=5, model=model, optimizer=OptimizerConfig()) for each in data]
    [before] = rank_pool.run(1, run_part, configs[0], tmp_path / "before", ARM, 5)
    [path] = list_checkpoints(tmp_path / "before" / "checkpoints")
    after, fresh = (
        rank_pool.run(1, run_part, replace(configs[1], init_from=start), tmp_path / f"after-{start is None}", ARM, 0)[0]
        for start in (path, None)
    )
    old, new, untouched = before.after[0], after.before[0], fresh.before[0]
    own = [name for name in new if "cart" in name and "lifetime" not in name]
    kept = [name for name in old if name in new and "lifetime" not in name and "__warmup" not in name]
    assert {name for name in new if "/model/" in name} == {name for name in (*own, *kept) if "/model/" in name}
    for names, expected in ((own, untouched), (kept, old)):
        assert any("/model/" in name for name in names)
        assert any("/optimizer/" in name for name in names)
        assert any("balancing.balancer.weights." in name for name in names)
        for name in names:
            # A fresh run has no optimizer state before its first step.
            np.testing.assert_array_equal(new[name], expected.get(name, np.zeros_like(new[name])), err_msg=name)
    assert any(np.any(old[name] != untouched[name]) for name in kept if "sharing." in name)
    process = python(
        "dlrm_mtl.train", "--data", data[1], "--out", tmp_path / "run", "--init-from", path, "--batch-size", "48",
        "--max-steps", "2", "--model.sharing", sharing, "--model.relation", "esmm", "--model.shared-experts", "2",
        "--model.head-mlp", "8", "--model.expert-mlp", "8", "6",
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    for said in (after.said, process.stderr):
        assert mentions(said, "kept: click, buy", "new: cart", "left out: none", ", ".join(NEW_MODULES[sharing]))
