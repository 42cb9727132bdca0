"""Optimizers: each step's updates are the scheduled rate times the gradient, in tables and dense weights alike.

Gradients come from the unsharded model with the weights of that step, by plain autograd."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest
import torch

from dlrm_mtl import cli
from dlrm_mtl.config import DenseOptimizer, OptimizerConfig, ScheduleConfig, TableOptimizer
from dlrm_mtl.data.dataset import open_dataset
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.models.embeddings import build_embedding_bags
from dlrm_mtl.run_config import RunConfig
from dlrm_mtl.training.optimization.optimizers import apply_table_optimizer
from tests.distributed.training import Weights, assemble, local_batches, run_config
from tests.messages import mentions, naming
from tests.models.batches import SCHEMA, materialized
from tests.ranks import RankPool
from tests.training import runs

STEPS = 8
TABLE_LR, DENSE_LR = 0.5, 0.1

CONSTANT = (ScheduleConfig(), [1.0] * STEPS)
SCHEDULES: dict[str, tuple[ScheduleConfig, list[float]]] = {
    "constant": CONSTANT,
    "warm-up": (ScheduleConfig(warmup_steps=4), [0.25, 0.4375, 0.625, 0.8125, 1, 1, 1, 1]),
    "decay": (ScheduleConfig(0, 2, 4, 0.5), [1, 1, 1, 0.875, 0.75, 0.625, 0.5, 0.5]),
    "decay at once": (ScheduleConfig(0, 0, 2, 0.25), [1, 0.625, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25]),
    "warm-up, then decay to nothing": (ScheduleConfig(2, 2, 2, 0.0), [0.5, 0.75, 1, 0.5, 0, 0, 0, 0]),
    "warm-up, constant, decay": (ScheduleConfig(2, 4, 2, 0.5), [0.5, 0.75, 1, 1, 1, 0.75, 0.5, 0.5]),
}
"""Multipliers of the full rate, by hand."""


def sgd(**changes: Any) -> OptimizerConfig:
    return replace(OptimizerConfig("sgd", TABLE_LR, dense="sgd", dense_lr=DENSE_LR), **changes)


def trace(pool: RankPool, config: RunConfig, world_size: int, steps: int) -> list[Weights]:
    """Whole weights before the first and after each step."""
    results = pool.run(world_size, runs.weights_by_step, config, "sum", steps)
    return [assemble(results, str(step)) for step in range(steps + 1)]


def gradients(config: RunConfig, weights: list[Weights], steps: int) -> list[Weights]:
    """Gradient of the summed losses of each step's global batch at that step's weights, by name."""
    schema = open_dataset(config.data).schema
    alone = Ranks(0, 1, 1, torch.device("cpu"), None)  # type: ignore[arg-type]
    found = []
    for step, batch in enumerate(local_batches(config, alone, steps)):
        model = materialized(schema, config.model, recipe="sum")
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(torch.from_numpy(weights[step][name]))
        model(batch)[0].sum().backward()
        found.append({name: parameter.grad.numpy() for name, parameter in model.named_parameters()})  # type: ignore[union-attr]
    return found


def kind_of(name: str) -> str:
    return "tables" if "embedding_bags" in name else "dense"


def flat(weights: Weights, kind: str, names: list[str]) -> npt.NDArray[np.float64]:
    return np.concatenate([weights[name].ravel() for name in names if kind_of(name) == kind]).astype(np.float64)


def assert_moves_by(before: Weights, after: Weights, gradient: Weights, kind: str, rate: float) -> None:
    names = sorted(gradient)
    moved = flat(before, kind, names) - flat(after, kind, names)
    direction = flat(gradient, kind, names)
    assert direction @ direction > 1e-6
    if rate == 0:
        assert not moved.any()
        return
    assert moved @ direction / (direction @ direction) == pytest.approx(rate, rel=1e-4)
    np.testing.assert_allclose(moved, rate * direction, atol=3e-7)


@pytest.mark.parametrize(("name", "schedule"), list(SCHEDULES.items()))
@pytest.mark.parametrize("kind", ["tables", "dense"])
def test_each_step_has_its_scheduled_rate(
    small_dataset: Path, rank_pool: RankPool, kind: str, name: str, schedule: tuple[ScheduleConfig, list[float]]
) -> None:
    """Of one kind, while the other's rate is constant: neither gets the other's."""
    chosen = {"tables": CONSTANT, "dense": CONSTANT} | {kind: schedule}
    optimizer = sgd(table_schedule=chosen["tables"][0], dense_schedule=chosen["dense"][0])
    config = run_config(small_dataset, optimizer=optimizer)
    weights = trace(rank_pool, config, 1, STEPS)
    for step, gradient in enumerate(gradients(config, weights, STEPS)):
        for part, rate in (("tables", TABLE_LR), ("dense", DENSE_LR)):
            assert_moves_by(weights[step], weights[step + 1], gradient, part, rate * chosen[part][1][step])


def test_scheduled_rates_reach_the_tables_of_every_rank(small_dataset: Path, rank_pool: RankPool) -> None:
    warm, decay = SCHEDULES["warm-up"], SCHEDULES["warm-up, constant, decay"]
    config = run_config(small_dataset, optimizer=sgd(table_schedule=warm[0], dense_schedule=decay[0]))
    weights = trace(rank_pool, config, 2, STEPS)
    for step, gradient in enumerate(gradients(config, weights, STEPS)):
        assert_moves_by(weights[step], weights[step + 1], gradient, "tables", TABLE_LR * warm[1][step])
        assert_moves_by(weights[step], weights[step + 1], gradient, "dense", DENSE_LR * decay[1][step])


def test_shares_are_steps_of_the_run(small_dataset: Path, rank_pool: RankPool, tmp_path: Path) -> None:
    by_shares = sgd(
        table_schedule=ScheduleConfig(warmup_share=0.5, decay_share=0.0),
        dense_schedule=ScheduleConfig(warmup_steps=2, decay_share=0.25, final_scale=0.5),
    )
    in_steps = sgd(
        table_schedule=ScheduleConfig(4, decay_share=0.0),
        dense_schedule=ScheduleConfig(2, 6, 2, 0.5, decay_share=0.0),
    )
    results = []
    for name, optimizer in (("shares", by_shares), ("steps", in_steps)):
        config = run_config(small_dataset, out=tmp_path / name, optimizer=optimizer, max_steps=STEPS)
        results += rank_pool.run(1, runs.prepared_and_trained, config)
        written = json.loads((config.out / "config.json").read_text())["optimizer"]
        assert written == cli.as_dict(optimizer)
    assert results[0][0] == results[1][0] == in_steps
    for name, weights in results[1][1].items():
        assert np.array_equal(results[0][1][name], weights), name


def test_a_warmup_over_the_decay_is_refused(small_dataset: Path, rank_pool: RankPool, tmp_path: Path) -> None:
    overlapping = sgd(dense_schedule=ScheduleConfig(warmup_steps=7, decay_share=0.25))
    config = run_config(small_dataset, out=tmp_path / "run", optimizer=overlapping, max_steps=STEPS)
    [error] = rank_pool.run(1, runs.error_of_preparing, config, ["mean"])
    assert mentions(error, "schedule.decay_start", "6", "7 (warmup_steps)")
    assert not config.out.exists()


@pytest.mark.parametrize("world_size", [1, 2])
def test_clipping_bounds_the_norm_of_all_dense_gradients_together(
    small_dataset: Path, rank_pool: RankPool, world_size: int
) -> None:
    clip = 0.05
    config = run_config(small_dataset, optimizer=sgd(clip_norm=clip))
    weights = trace(rank_pool, config, world_size, 3)
    for step, gradient in enumerate(gradients(config, weights, 3)):
        norm = float(np.linalg.norm(flat(gradient, "dense", sorted(gradient))))
        assert norm > 2 * clip
        assert_moves_by(weights[step], weights[step + 1], gradient, "dense", DENSE_LR * clip / norm)
        assert_moves_by(weights[step], weights[step + 1], gradient, "tables", TABLE_LR)


def test_clipping_leaves_small_gradients_alone(small_dataset: Path, rank_pool: RankPool) -> None:
    config = run_config(small_dataset, optimizer=sgd(clip_norm=1e3))
    weights = trace(rank_pool, config, 1, 2)
    for step, gradient in enumerate(gradients(config, weights, 2)):
        assert_moves_by(weights[step], weights[step + 1], gradient, "dense", DENSE_LR)


def expected_table_update(optimizer: str, gradient: npt.NDArray[Any], rate: float, eps: float) -> npt.NDArray[Any]:
    """An optimizer's first update."""
    squares = gradient.astype(np.float64) ** 2
    if optimizer == "sgd":
        return rate * gradient
    if optimizer == "rowwise_adagrad":
        squares = squares.mean(axis=1, keepdims=True)
    return rate * gradient / (np.sqrt(squares) + eps)  # type: ignore[no-any-return]


CPU_TABLE_OPTIMIZERS = [name for name in get_args(TableOptimizer) if name != "adam"]
DENSE_OPTIMIZERS = get_args(DenseOptimizer)


@pytest.mark.parametrize(("table", "dense"), list(product(CPU_TABLE_OPTIMIZERS, DENSE_OPTIMIZERS)))
def test_every_optimizer_makes_its_first_update(
    small_dataset: Path, rank_pool: RankPool, table: Any, dense: Any
) -> None:
    rate, dense_rate, eps = 0.05, 0.01, 1e-4
    optimizer = OptimizerConfig(table, rate, eps, dense, dense_rate, weight_decay=0.1)
    config = run_config(small_dataset, optimizer=optimizer)
    weights = trace(rank_pool, config, 1, 2)
    gradient = gradients(config, weights, 1)[0]
    for name, value in gradient.items():
        moved = weights[0][name].astype(np.float64) - weights[1][name]
        assert np.isfinite(weights[2][name]).all()
        assert not np.array_equal(weights[2][name], weights[1][name])
        if kind_of(name) == "tables":
            expected = expected_table_update(table, value, rate, eps)
            np.testing.assert_allclose(moved, expected, atol=2e-5, rtol=2e-2, err_msg=name)
            assert np.abs(moved).max() > 1e-5
        elif dense == "sgd":
            np.testing.assert_allclose(moved, dense_rate * (value + 0.1 * weights[0][name]), atol=1e-6, err_msg=name)
        elif dense == "adamw":  # decay beside the update, not in the gradient
            beside = moved - dense_rate * 0.1 * weights[0][name]
            assert np.abs(np.abs(beside[np.abs(value) > 1e-4]) - dense_rate).max() < 1e-4
        else:
            steep = np.abs(value + 0.1 * weights[0][name]) > 1e-4
            assert np.abs(np.abs(moved[steep]) - dense_rate).max() < 1e-4


def test_adam_tables_are_refused_on_a_cpu() -> None:
    tables = build_embedding_bags(SCHEMA, run_config(Path("unused")).model)
    adam = OptimizerConfig(table="adam")
    with pytest.raises(ValueError, match=naming("optimizer.table", "'adam'", "rowwise_adagrad, adagrad or sgd")):
        apply_table_optimizer(tables, adam, torch.device("cpu"))
    apply_table_optimizer(tables, adam, torch.device("cuda"))


@pytest.mark.parametrize("world_size", [1, 2])
def test_every_weight_has_one_optimizer(small_dataset: Path, rank_pool: RankPool, world_size: int) -> None:
    results = rank_pool.run(world_size, runs.optimizer_keys, run_config(small_dataset))
    fused = sorted({name for result in results for name in result["tables"]})
    assert fused == [f"embedding_bags.embedding_bags.{name}.weight" for name in ("item", "tags", "user")]
    expected = sorted(name for name, _ in materialized(SCHEMA, run_config(small_dataset).model).named_parameters())
    for result in results:
        assert sorted([*fused, *result["dense"]]) == expected


def test_replicated_tables_are_refused(small_dataset: Path, rank_pool: RankPool) -> None:
    """They would train under the dense optimizer."""
    messages = rank_pool.run(2, runs.error_of_replicated_tables, run_config(small_dataset))
    for message in messages:
        assert "fused table optimizer" in message
        assert "embedding_bags." in message
