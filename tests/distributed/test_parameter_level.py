"""Balancing by the gradients of shared parameters: right weights, right update, on one rank and on several."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.run_config import RunConfig
from tests.distributed.training import Weights, assemble, count_table_updates, run_config, train_steps
from tests.ranks import RankPool

LEVELS = ["interaction", "dense", "embedding"]


@pytest.fixture(scope="module")
def config(small_dataset: Path) -> RunConfig:
    return replace(run_config(small_dataset), model=ModelConfig(interaction="dcn"))


def assert_close(found: Weights, expected: Weights, tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("level", LEVELS)
def test_fixed_weights_train_as_at_the_representation(
    config: RunConfig, rank_pool: RankPool, world_size: int, level: str
) -> None:
    """With fixed weights the level of gradients does not matter, also with replicated tables."""
    usual = rank_pool.run(world_size, train_steps, config, "static:weights=0.2/0.5/0.1", 4)
    found = rank_pool.run(world_size, train_steps, config, f"static:weights=0.2/0.5/0.1,level={level}", 4)
    assert_close(assemble(found, "final"), assemble(usual, "final"), 1e-5)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("method", ["mgda", "moco"])
def test_two_ranks_equal_one_process(config: RunConfig, rank_pool: RankPool, method: str, level: str) -> None:
    alone = rank_pool.run(1, train_steps, config, f"{method}:level={level}", 4)
    together = rank_pool.run(2, train_steps, config, f"{method}:level={level}", 4)
    assert np.array_equal(together[0]["coefficients"], together[1]["coefficients"])
    np.testing.assert_allclose(together[0]["coefficients"], alone[0]["coefficients"], atol=1e-4)
    assert_close(assemble(together, "final"), assemble(alone, "final"), 1e-4)


def change(result: dict[str, Any], part: str, rate: float) -> np.ndarray[Any, Any]:
    """The gradient that one SGD step applied to some parameters, flattened."""
    names = sorted(name for name in result["initial"] if part in name)
    assert names
    return np.concatenate([(result["initial"][n] - result["final"][n]).ravel() for n in names]).astype(float) / rate


@pytest.mark.parametrize(
    ("level", "part"), [("interaction", ".interaction."), ("dense", ".bottom."), ("embedding", "embedding_bags")]
)
def test_the_gramian_is_of_the_target(config: RunConfig, rank_pool: RankPool, level: str, part: str) -> None:
    """One step under each task alone shows that task's gradient."""
    rate = config.optimizer.table_lr if level == "embedding" else config.optimizer.dense_lr
    gradients = []
    for weights in ("1/0/0", "0/1/0", "0/0/1"):
        [alone] = rank_pool.run(1, train_steps, config, f"static:weights={weights}", 1)
        gradients.append(change(alone, part, rate))
    expected = np.stack(gradients) @ np.stack(gradients).T
    [result] = rank_pool.run(1, train_steps, config, f"mgda:level={level}", 1)
    np.testing.assert_allclose(result["gramians"][0], expected, rtol=2e-3, atol=1e-3 * expected.max())


@pytest.mark.parametrize("level", ["interaction", "dense"])
def test_fused_tables_are_updated_once_per_step(config: RunConfig, rank_pool: RankPool, level: str) -> None:
    assert rank_pool.run(1, count_table_updates, config, f"mgda:level={level}", 3) == [3]
