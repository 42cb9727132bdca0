"""A run that was interrupted ends as one that was not; on other ranks or another plan it loses nothing."""

import functools
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain, pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlrm_mtl.config import ModelConfig, OptimizerConfig, ScheduleConfig, TableOptimizer
from dlrm_mtl.distributed.checkpoint_directory import list_checkpoints, read_manifest, record_files, write_manifest
from dlrm_mtl.distributed.tensor_description import DESCRIPTION
from dlrm_mtl.model_schema import Task
from dlrm_mtl.run_config import RunConfig
from tests.datasets import TASKS, make_dataset
from tests.distributed.training import Weights, assemble, run_config
from tests.messages import mentions
from tests.ranks import RankPool
from tests.training import resuming
from tests.training.resuming import Part

MULTIBALANCE = "multibalance:beta=0.5,gamma=0.3"
SCHEDULED = OptimizerConfig(
    "rowwise_adagrad",
    0.1,
    dense="adamw",
    dense_lr=0.01,
    weight_decay=0.01,
    clip_norm=1.0,
    table_schedule=ScheduleConfig(4, 6, 10, 0.2),
    dense_schedule=ScheduleConfig(9),
)
STEPS = 2 * (600 // 48)


def config_of(directory: Path, **changes: Any) -> RunConfig:
    """Two epochs in windows of 5 steps, which do not divide an epoch."""
    return replace(run_config(directory, log_every=5, epochs=2, optimizer=SCHEDULED), **changes)


def parts(
    pool: RankPool,
    config: RunConfig,
    directory: Path,
    arms: Sequence[str],
    stops: Sequence[tuple[int, int | None, str | None]],
) -> list[list[Part]]:
    """Parts of a run, each by rank; ``stops``: on how many ranks, until which step, under which plan."""
    found = []
    for world_size, until, kind in stops:
        results = pool.run(world_size, resuming.run_part, config, directory, arms, until, kind)
        assert all(isinstance(result, Part) for result in results), results
        found.append(results)
    return found


def sharing_model(sharing: str) -> ModelConfig:
    return ModelConfig(sharing=sharing, expert_mlp=(8,))


Begin = Callable[..., tuple[Path, list[Part]]]


@pytest.fixture(scope="module")
def begun(small_dataset: Path, rank_pool: RankPool, tmp_path_factory: pytest.TempPathFactory) -> Begin:
    """Trains until a step, once for all tests: the directory of the run, which is not to be changed, and its parts."""

    @functools.cache
    def begin(recipe: str, world_size: int = 1, until: int = 5, sharing: str | None = None) -> tuple[Path, list[Part]]:
        config = config_of(small_dataset, **({} if sharing is None else {"model": sharing_model(sharing)}))
        directory = tmp_path_factory.mktemp("begun")
        [part] = parts(rank_pool, config, directory, [recipe], [(world_size, until, None)])
        return directory, part

    return begin


def assert_equal(found: Weights, expected: Weights) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def whole(results: list[Part], moment: str) -> Weights:
    """The state of the first arm, put together from all ranks, without what is each rank's own."""
    return assemble([{moment: getattr(result, moment)[0]} for result in results], moment)


RECIPES = [
    *("mean", MULTIBALANCE, f"{MULTIBALANCE},reduction=delayed", f"{MULTIBALANCE},reduction=local"),
    *("moco", "gradvac", "graddrop", "uncertainty", "imtl_l+db_mtl:average=0.9", "torchjd:GradVac"),
    *("mgda:level=dense", f"{MULTIBALANCE},level=embedding"),
]


@pytest.mark.parametrize(
    ("world_size", "recipes"), [(2, RECIPES), *((world_size, [RECIPES[i] for i in (0, 1, 3)]) for world_size in (1, 3))]
)
def test_exact(
    small_dataset: Path, rank_pool: RankPool, tmp_path: Path, world_size: int, recipes: Sequence[str]
) -> None:
    config = config_of(small_dataset, batch_size=96)
    [plain] = parts(rank_pool, config, tmp_path / "plain", recipes, [(world_size, None, None)])
    stops = [(world_size, until, None) for until in (5, 10, None)]
    first, second, third = parts(rank_pool, config, tmp_path / "stopped", recipes, stops)
    for rank, arm in product(range(world_size), range(len(recipes))):
        windows = [part[rank].windows[arm] for part in (first, second, third)]
        assert [len(some) for some in windows] == [1, 1, 1]
        assert list(chain(*windows)) == plain[rank].windows[arm]
        assert_equal(third[rank].after[arm], plain[rank].after[arm])
        assert_equal(second[rank].before[arm], first[rank].after[arm])


@pytest.mark.parametrize(("table", "dense"), [("adagrad", "adam"), ("sgd", "sgd"), ("rowwise_adagrad", "adagrad")])
def test_exact_with_every_other_optimizer(
    small_dataset: Path, rank_pool: RankPool, tmp_path: Path, table: TableOptimizer, dense: Any
) -> None:
    config = config_of(small_dataset, optimizer=replace(SCHEDULED, table=table, dense=dense))
    arms = ["mean", "uncertainty"]
    [plain] = parts(rank_pool, config, tmp_path / "plain", arms, [(2, None, None)])
    _, last = parts(rank_pool, config, tmp_path / "stopped", arms, [(2, 10, None), (2, None, None)])
    for rank in range(2):
        for arm in range(2):
            assert_equal(last[rank].after[arm], plain[rank].after[arm])


@pytest.mark.parametrize("recipe", ["mean", MULTIBALANCE])
def test_two_one_three_ranks(small_dataset: Path, rank_pool: RankPool, tmp_path: Path, recipe: str) -> None:
    """What one part ends with, the next begins with; every row is trained on once an epoch."""
    stops = [(2, 5, None), (1, 15, None), (3, 20, None), (2, None, None)]
    run = parts(rank_pool, config_of(small_dataset), tmp_path, [recipe], stops)
    for before, after in pairwise(run):
        assert_equal(whole(after, "before"), whole(before, "after"))
    moments = whole(run[1], "before")
    adam = [name for name in moments if name.endswith("/exp_avg")]
    assert len(adam) > 10
    assert all(moments[name].any() for name in adam)
    assert all(moments[name].any() for name in moments if "momentum" in name)
    [windows, _, _, last] = [part[0].windows[0] for part in run]
    assert windows[0].last_step == 5
    assert last[-1].last_step == STEPS
    assert last[-1].lifetime[0].rows == STEPS * 48


@pytest.mark.parametrize(
    "kinds", [("table_wise", "column_wise", "row_wise"), ("row_wise", "table_wise", "column_wise")]
)
def test_another_plan(small_dataset: Path, rank_pool: RankPool, tmp_path: Path, kinds: tuple[str, ...]) -> None:
    """With the optimizer state, and training goes on as under the plan before, but for the order of sums."""
    optimizer = replace(SCHEDULED, table="adagrad", table_eps=1e-4, dense="sgd")
    config, world_sizes = config_of(small_dataset, optimizer=optimizer), (2, 3, 2)
    stops = [(size, until, kind) for size, until, kind in zip(world_sizes, (5, 10, 15), kinds, strict=True)]
    run = parts(rank_pool, config, tmp_path / "other", ["mean"], stops)
    for before, after in pairwise(run):
        assert_equal(whole(after, "before"), whole(before, "after"))
    same = parts(rank_pool, config, tmp_path / "same", ["mean"], [(2, 5, kinds[0]), (2, 10, kinds[0])])
    other = parts(rank_pool, config, tmp_path / "again", ["mean"], [(2, 5, kinds[0]), (2, 10, kinds[1])])
    expected, found = whole(same[1], "after"), whole(other[1], "after")
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_state_that_cannot_be_carried_is_refused(small_dataset: Path, rank_pool: RankPool, tmp_path: Path) -> None:
    parts(rank_pool, config_of(small_dataset), tmp_path, ["mean"], [(2, 5, "table_wise")])
    refused = rank_pool.run(2, resuming.run_part, config_of(small_dataset), tmp_path, ["mean"], 10, "column_wise")
    assert refused[0] == refused[1]
    assert "column shard" in refused[0]
    assert mentions(refused[0], "table_wise", "column_wise")
    assert "sharding.kinds=table_wise" in refused[0]


def remove(path: Path, part: str) -> None:
    """Takes tensors out of a checkpoint, and gives it matching checksums."""
    description = json.loads((path / DESCRIPTION).read_text())
    kept = {name: value for name, value in description.items() if part not in name}
    assert len(kept) < len(description)
    (path / DESCRIPTION).write_text(json.dumps(kept))
    manifest = read_manifest(path)
    for name, size, checksum in record_files(path, list(manifest["files"])):
        manifest["files"][name] = {"bytes": size, "sha256": checksum}
    write_manifest(path, manifest)


@pytest.mark.parametrize(
    "part", ["/exp_avg", "momentum", "__warmup", "/model/dense_part.heads", "balancer.norms", "lifetime/sums"]
)
def test_missing_state_is_refused(
    begun: Begin, small_dataset: Path, rank_pool: RankPool, tmp_path: Path, part: str
) -> None:
    """Adam's state, say, does not exist in a new optimizer: it would be left out of loading without a word."""
    directory, _ = begun(MULTIBALANCE, 2)
    run = shutil.copytree(directory, tmp_path / "run")
    [checkpoint] = list_checkpoints(run / "checkpoints")
    remove(checkpoint, part)
    for refused in rank_pool.run(2, resuming.run_part, config_of(small_dataset), run, [MULTIBALANCE]):
        assert isinstance(refused, str)
        assert part.strip("/") in refused
        assert str(checkpoint) in refused


def test_other_arms_are_refused(begun: Begin, small_dataset: Path, rank_pool: RankPool, tmp_path: Path) -> None:
    directory, _ = begun("mean")
    run = shutil.copytree(directory, tmp_path / "run")
    [refused] = rank_pool.run(1, resuming.run_part, config_of(small_dataset), run, ["sum"])
    assert mentions(refused, "step-00000005", "mean", "sum")


CART = Task("cart", "buy")
TASK_SETS = {
    "added": (*TASKS, CART),
    "removed": TASKS[:2],
    "exchanged and reordered": (CART, TASKS[2], TASKS[0]),
}


@pytest.mark.parametrize(
    ("recipe", "sharing", "tasks"),
    [
        *((MULTIBALANCE, "bottom", tasks) for tasks in TASK_SETS),
        *((f"{MULTIBALANCE},reduction=delayed", "bottom", tasks) for tasks in TASK_SETS),
        ("imtl_l+moco", "bottom", "added"),
        ("imtl_l+moco", "bottom", "removed"),
        ("imtl_l+moco", "stem", "exchanged and reordered"),
    ],
)
def test_another_task_set(
    begun: Begin, rank_pool: RankPool, tmp_path: Path, recipe: str, sharing: str, tasks: str
) -> None:
    directory, before = begun(recipe, 2, 10, sharing)
    [checkpoint] = list_checkpoints(directory / "checkpoints")
    data = make_dataset(tmp_path / "data", tasks=TASK_SETS[tasks])
    config = config_of(data, init_from=checkpoint, model=sharing_model(sharing))
    names = [task.name for task in TASK_SETS[tasks]]
    [after, fresh] = (
        parts(rank_pool, some, tmp_path / f"run-{until}", [recipe], [(2, until, None)])[0]
        for until, some in ((5, config), (0, replace(config, init_from=None)))
    )
    old, new, untouched = whole(before, "after"), whole(after, "before"), whole(fresh, "before")
    kept = {name for task in TASKS if task.name in names for name in new if f"task_{task.name}." in name}
    assert kept
    assert any("%of_task_" in name for name in kept) == (sharing == "stem")
    shared = {name for name in new if any(part in name for part in ("embedding_bags", ".shared."))}
    for name in {name for name in kept | shared if "task_cart" not in name}:
        np.testing.assert_array_equal(new[name], old[name], err_msg=name)
    for name in new:
        if "task_cart" in name and "/model/" in name:
            np.testing.assert_array_equal(new[name], untouched[name], err_msg=name)
        if "__warmup" in name:
            assert not new[name].any()
    weights = {name.rpartition(".")[2]: value for name, value in new.items() if "balancer.weights." in name}
    assert set(weights) == set(names)
    for name in names:
        saved = old.get(f"arm/model/dense_part.balancing.balancer.weights.{name}", np.array(1 / len(names)))
        np.testing.assert_array_equal(weights[name], saved)
    assert "momentum" in "".join(new)
    said = after[0].said
    assert f"starts from {recipe} in {checkpoint}, step 10" in said
    assert f"Tasks kept: {', '.join(name for name in names if name != 'cart')};" in said
    assert f"new: {'cart' if 'cart' in names else 'none'};" in said
    assert all(np.isfinite(value).all() for value in whole(after, "after").values())


def test_another_method_starts_with_its_own_state(
    begun: Begin, small_dataset: Path, rank_pool: RankPool, tmp_path: Path
) -> None:
    directory, _ = begun(MULTIBALANCE)
    [checkpoint] = list_checkpoints(directory / "checkpoints")
    config = config_of(small_dataset, init_from=checkpoint)
    [part] = parts(rank_pool, config, tmp_path / "after", ["mean", MULTIBALANCE], [(1, 5, None)])
    mean, multibalance = part[0].before
    assert mean["arm/model/dense_part.balancing.balancer.step"] == 0
    assert multibalance["arm/model/dense_part.balancing.balancer.step"] == 5
    name = next(name for name in mean if "task_click" in name and "/model/" in name)
    np.testing.assert_array_equal(mean[name], multibalance[name])
    assert "Balancer state anew: another method." in part[0].said
    assert "Balancer state kept." in part[0].said


def test_another_model_is_refused(begun: Begin, small_dataset: Path, rank_pool: RankPool, tmp_path: Path) -> None:
    directory, _ = begun("mean")
    [checkpoint] = list_checkpoints(directory / "checkpoints")
    config = config_of(small_dataset, init_from=checkpoint)
    for changes, message in (
        ({"head_mlp": (8,)}, "has size"),
        ({"head_mlp": (64, 32)}, "which this run needs"),
        ({"bottom_mlp": (64, 32)}, ""),
        ({"over_mlp": (16,)}, ""),
    ):
        other = replace(config, model=replace(config.model, **changes))
        [refused] = rank_pool.run(1, resuming.run_part, other, tmp_path / "after", ["mean"])
        assert isinstance(refused, str)
        assert refused.startswith(f"{checkpoint}: ")
        assert message in refused
