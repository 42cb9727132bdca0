"""Sharded, pipelined training on W ranks equals that of one process with the whole batch, tables included."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlrm_mtl.config import ModelConfig, OptimizerConfig
from dlrm_mtl.model_parts import INTERACTIONS
from tests.distributed.training import Weights, assemble, count_table_updates, run_config, train_steps
from tests.ranks import RankPool

STEPS = 8
MULTIBALANCE = "multibalance:beta=0.5,gamma=0.3,prior_in_direction=0.5"


def assert_close(found: Weights, expected: Weights, tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=tolerance, atol=tolerance, err_msg=name)


def moved(results: list[dict[str, Any]]) -> list[str]:
    """Names of the weights that training changed."""
    initial, final = assemble(results, "initial"), assemble(results, "final")
    return [name for name in initial if not np.array_equal(initial[name], final[name])]


@pytest.fixture(scope="module")
def one_process(small_dataset: Path, rank_pool: RankPool) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = rank_pool.run(1, train_steps, run_config(small_dataset), MULTIBALANCE, STEPS)
    return results


@pytest.mark.parametrize(
    ("world_size", "kind"), [(2, None), (3, None), (2, "row_wise"), (2, "column_wise"), (2, "mixed"), (3, "table_wise")]
)
def test_ranks_equal_one_process(
    small_dataset: Path, rank_pool: RankPool, one_process: list[dict[str, Any]], world_size: int, kind: str | None
) -> None:
    results = rank_pool.run(world_size, train_steps, run_config(small_dataset), MULTIBALANCE, STEPS, kind)
    for result in results:
        assert np.array_equal(result["task_weights"], results[0]["task_weights"])
        assert np.array_equal(result["coefficients"], results[0]["coefficients"])
    assert_close(assemble(results, "initial"), assemble(one_process, "initial"), 0)
    np.testing.assert_allclose(results[0]["task_weights"], one_process[0]["task_weights"], atol=1e-6)
    np.testing.assert_allclose(results[0]["losses"], one_process[0]["losses"], atol=1e-6)
    assert_close(assemble(results, "final"), assemble(one_process, "final"), 1e-5)


def test_the_comparison_above_is_not_vacuous(one_process: list[dict[str, Any]]) -> None:
    changed = moved(one_process)
    tables = {name.split(".")[-2] for name in changed if "embedding_bags" in name}
    assert tables == {"user", "item", "tags"}
    assert {"bottom", "heads"} <= {part for name in changed for part in name.split(".")}
    weights = one_process[0]["task_weights"]
    assert np.abs(weights - 1 / 3).max() > 0.01


@pytest.mark.parametrize("reduction", ["defined", "batch"])
def test_loss_reductions_are_of_the_global_batch(regression_dataset: Path, rank_pool: RankPool, reduction: Any) -> None:
    """Losses of both kinds, of weighted rows."""
    config = replace(run_config(regression_dataset), loss_reduction=reduction)
    alone = rank_pool.run(1, train_steps, config, MULTIBALANCE, 4)
    together = rank_pool.run(2, train_steps, config, MULTIBALANCE, 4)
    np.testing.assert_allclose(together[0]["losses"], alone[0]["losses"], atol=1e-6)
    np.testing.assert_allclose(together[0]["task_weights"], alone[0]["task_weights"], atol=1e-6)


def test_default_optimizers_agree_on_losses(small_dataset: Path, rank_pool: RankPool) -> None:
    config = replace(run_config(small_dataset), optimizer=OptimizerConfig())
    alone = rank_pool.run(1, train_steps, config, MULTIBALANCE, STEPS)
    together = rank_pool.run(2, train_steps, config, MULTIBALANCE, STEPS)
    np.testing.assert_allclose(together[0]["losses"], alone[0]["losses"], atol=2e-6)


@pytest.mark.parametrize("recipe", ["mean", MULTIBALANCE])
@pytest.mark.parametrize("world_size", [1, 2])
def test_one_backward_reaches_the_tables_per_step(
    small_dataset: Path, rank_pool: RankPool, world_size: int, recipe: str
) -> None:
    # Rank 0 has a table under every plan.
    counts = rank_pool.run(world_size, count_table_updates, run_config(small_dataset), recipe, 3)
    assert counts == [3] * world_size


@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_every_interaction_is_pipelined_and_exact(small_dataset: Path, rank_pool: RankPool, interaction: str) -> None:
    dims = {} if interaction in ("dot", "projection") else {"item": 8, "tags": 4}
    model = ModelConfig(interaction=interaction, embedding_dims=dims, over_mlp=(24,))  # type: ignore[arg-type]
    optimizer = OptimizerConfig(table="sgd", table_lr=0.1, dense="sgd", dense_lr=0.02)
    config = replace(run_config(small_dataset), model=model, optimizer=optimizer)
    alone = rank_pool.run(1, train_steps, config, MULTIBALANCE, 3)
    together = rank_pool.run(2, train_steps, config, MULTIBALANCE, 3)
    assert all(result["pipelined"] == result["sharded"] == 1 for result in together)
    np.testing.assert_allclose(together[0]["losses"], alone[0]["losses"], atol=2e-6)
    assert_close(assemble(together, "final"), assemble(alone, "final"), 2e-5)


def test_tables_of_each_task_under_every_plan(small_dataset: Path, rank_pool: RankPool) -> None:
    """Under stem. Initial weights depend on no plan, and those of what is shared on no architecture."""
    config = run_config(small_dataset, model=ModelConfig(sharing="stem", expert_mlp=(8,), head_mlp=(8,)))
    alone = rank_pool.run(1, train_steps, config, MULTIBALANCE, 3)
    initial, final = assemble(alone, "initial"), assemble(alone, "final")
    tables = [name for name in initial if ".embedding_bags." in f".{name}"]
    assert len(tables) == 3 * (1 + 3)
    assert set(moved(alone)) >= set(tables)
    for kind in ("row_wise", "column_wise", "mixed"):
        together = rank_pool.run(2, train_steps, config, MULTIBALANCE, 3, kind)
        assert all(result["pipelined"] == result["sharded"] == 1 for result in together)
        assert_close(assemble(together, "initial"), initial, 0)
        assert_close(assemble(together, "final"), final, 1e-5)
    of_bottom = assemble(rank_pool.run(1, train_steps, run_config(small_dataset), "mean", 1), "initial")
    shared = [name for name in of_bottom if "embedding_bags" in name or ".shared." in name]
    assert_close({name: initial[name] for name in shared}, {name: of_bottom[name] for name in shared}, 0)
    assert rank_pool.run(2, count_table_updates, config, MULTIBALANCE, 3) == [3, 3]


def test_mean_and_sum_differ_by_the_rate(small_dataset: Path, rank_pool: RankPool) -> None:
    """With SGD, the tables under `mean` at 3 times the rate are those under `sum`."""
    at_sum = run_config(small_dataset)
    at_mean = replace(at_sum, optimizer=replace(at_sum.optimizer, table_lr=3 * at_sum.optimizer.table_lr))
    [by_sum] = rank_pool.run(1, train_steps, at_sum, "sum", 1)
    [by_mean] = rank_pool.run(1, train_steps, at_mean, "mean", 1)
    tables = [name for name in by_sum["final"] if "embedding_bags" in name]
    assert len(tables) == 3
    for name in tables:
        np.testing.assert_allclose(by_mean["final"][name], by_sum["final"][name], atol=1e-6)
