"""Tables in host memory behind a cache on the GPU."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dlrm_mtl.config import OptimizerConfig, ShardingConfig
from dlrm_mtl.distributed.host_memory import host_memory
from dlrm_mtl.model_schema import CategoricalFeature
from tests.gpu import steps
from tests.gpu.steps import run_config
from tests.models.batches import SCHEMA
from tests.ranks import RankPool
from tests.training import resuming

pytestmark = pytest.mark.gpu

MULTIBALANCE = "multibalance:beta=0.5,gamma=0.3"
CACHED = ShardingConfig(kernels=("fused_uvm_caching",), cache_load_factor=0.5)
PIPELINES = {False: "TrainPipelineSparseDist", True: "PrefetchTrainPipelineSparseDist"}


@pytest.mark.parametrize("table", ["sgd", "rowwise_adagrad"])
@pytest.mark.parametrize("prefetch", [False, True])
def test_cached_tables_train_the_same(small_dataset: Path, rank_pool: RankPool, prefetch: bool, table: str) -> None:
    """With evaluations between the windows, which must not disturb the cache."""
    optimizer = OptimizerConfig(table, 0.1, dense="sgd", dense_lr=0.02)  # type: ignore[arg-type]
    config = run_config(small_dataset, log_every=5, epochs=2, optimizer=optimizer)
    [(plain, _, kernels)] = rank_pool.run(1, steps.train_described, config, MULTIBALANCE)
    assert kernels == {"fused"}
    config = replace(config, sharding=replace(CACHED, prefetch=prefetch))
    [(cached, pipeline, kernels)] = rank_pool.run(1, steps.train_described, config, MULTIBALANCE)
    assert (pipeline, kernels) == (PIPELINES[prefetch], {"fused_uvm_caching"})
    np.testing.assert_allclose(np.array(cached.ne, float), np.array(plain.ne, float), rtol=1e-4)
    for name, value in plain.weights.items():
        np.testing.assert_allclose(cached.weights[name], value, rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("prefetch", [False, True])
def test_a_checkpoint_holds_what_is_in_the_cache(
    small_dataset: Path, rank_pool: RankPool, tmp_path: Path, prefetch: bool
) -> None:
    sharding = replace(CACHED, prefetch=prefetch)
    config = run_config(small_dataset, log_every=5, sharding=sharding, optimizer=OptimizerConfig())
    [plain] = rank_pool.run(1, resuming.run_part, config, tmp_path / "plain", ["mean"])
    first, second = (
        rank_pool.run(1, resuming.run_part, config, tmp_path / "stopped", ["mean"], until)[0] for until in (5, None)
    )
    assert all(np.array_equal(second.before[0][name], value) for name, value in first.after[0].items())
    for name, value in plain.after[0].items():
        np.testing.assert_allclose(second.after[0][name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_the_planner_knows_the_memory_of_the_gpu(rank_pool: RankPool) -> None:
    memory = torch.cuda.get_device_properties(0).total_memory
    host = host_memory()
    large = replace(SCHEMA, categorical=(CategoricalFeature("user", int(1.2 * memory) // (16 * 4)),))
    [refused] = rank_pool.run(1, steps.plan_or_error, large, ShardingConfig(kernels=("fused",)))
    assert refused.startswith("no sharding plan fits")
    small = replace(SCHEMA, categorical=(CategoricalFeature("user", int(0.5 * memory) // (16 * 4)),))
    assert rank_pool.run(1, steps.plan_or_error, small, ShardingConfig()) == [{"user": "fused"}]
    if 0.8 * host > 1.2 * memory:
        [found] = rank_pool.run(1, steps.plan_or_error, large, ShardingConfig(cache_load_factor=0.1))
        assert found == {"user": "fused_uvm_caching"}
