"""Tables that do not fit into a GPU: plans, and builds without a GPU."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from torchrec.distributed.planner import EmbeddingShardingPlanner, ParameterConstraints
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
from torchrec.distributed.planner.types import (
    HardwareConfig,
    KernelConfig,
    PlannerError,
    TopologyFactory,
    TrainerConfig,
)
from torchrec.distributed.types import CacheParams, ShardingPlan

from dlrm_mtl.config import ModelConfig, ShardingConfig
from dlrm_mtl.data.dataset import open_dataset
from dlrm_mtl.distributed.caching import (
    allowed_kernels,
    cache_params,
    fetch_ahead,
    fetches_ahead,
    without_cache_locks,
)
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.distributed.sharding import sharders
from dlrm_mtl.model_schema import CategoricalFeature
from dlrm_mtl.models.embeddings import build_embedding_bags
from dlrm_mtl.recipe import parse_recipe
from dlrm_mtl.training.arm import build_arm
from tests.distributed.training import plan_by_hand, run_config
from tests.models.batches import SCHEMA
from tests.ranks import RankPool

GIB = 1 << 30
LARGE = 20 * GIB // (16 * 4)
"""Rows of a table of 20 GiB."""


def plan_for_gpus(rows: int, config: ShardingConfig) -> ShardingPlan:
    """A plan of torchrec's planner for two GPUs of 16 GiB, in a host of 256 GiB."""
    schema = replace(SCHEMA, categorical=(CategoricalFeature("user", rows), CategoricalFeature("item", 1000)))
    hardware = HardwareConfig(ddr_cap_bytes=128 * GIB, hbm_cap_bytes=16 * GIB)
    planner = EmbeddingShardingPlanner(
        topology=TopologyFactory.create_topology(
            TrainerConfig(world_size=2, local_world_size=2), hardware, KernelConfig(compute_device="cuda")
        ),
        batch_size=512,
        storage_reservation=FixedPercentageStorageReservation(config.reserve),
        constraints={
            table: ParameterConstraints(
                sharding_types=["table_wise"],
                compute_kernels=allowed_kernels(config, "cuda"),
                cache_params=cache_params(config),
            )
            for table in schema.tables
        },
    )
    tables = build_embedding_bags(schema, ModelConfig())
    return planner.plan(nn.ModuleDict({"embedding_bags": tables}), sharders(config.comms))


def kernels(plan: ShardingPlan) -> dict[str, str]:
    return {name: table.compute_kernel for name, table in plan.plan["embedding_bags"].items()}  # type: ignore[attr-defined]


def test_what_does_not_fit_is_cached() -> None:
    assert kernels(plan_for_gpus(1000, ShardingConfig())) == {"user": "fused", "item": "fused"}
    plan = plan_for_gpus(LARGE, ShardingConfig(cache_load_factor=0.1))
    assert kernels(plan) == {"user": "fused_uvm_caching", "item": "fused"}
    table: Any = plan.plan["embedding_bags"]["user"]  # type: ignore[index]
    assert table.cache_params.load_factor == 0.1
    with pytest.raises(PlannerError):
        plan_for_gpus(LARGE, ShardingConfig(kernels=("fused",)))


def test_the_cache_counts_as_memory_of_the_gpu() -> None:
    """A cache of 90 % of 20 GiB does not fit into 16 GiB; one of 10 % does."""
    plan_for_gpus(LARGE, ShardingConfig(kernels=("fused_uvm_caching",), cache_load_factor=0.1))
    with pytest.raises(PlannerError):
        plan_for_gpus(LARGE, ShardingConfig(kernels=("fused_uvm_caching",), cache_load_factor=0.9))


@pytest.mark.parametrize("rows", [1000, LARGE])
def test_rows_are_fetched_ahead_where_a_table_is_cached(rows: int) -> None:
    plan = plan_for_gpus(rows, ShardingConfig())
    assert not fetches_ahead(plan)
    before = kernels(plan)
    fetch_ahead(plan)
    assert fetches_ahead(plan) == ("fused_uvm_caching" in before.values()) == (rows == LARGE)
    assert kernels(plan) == before


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (ShardingConfig(kernels=("fused", "fused_uvm_caching")), r"sharding\.kernels is .*, expected only fused"),
        (ShardingConfig(cache_load_factor=0.2), r"sharding\.cache_load_factor is 0\.2, expected none"),
        (ShardingConfig(prefetch=True), r"sharding\.prefetch is True, expected False"),
    ],
)
def test_caches_are_refused_without_a_gpu(config: ShardingConfig, named: str) -> None:
    assert "fused_uvm_caching" in allowed_kernels(config, "cuda")
    with pytest.raises(ValueError, match=named):
        allowed_kernels(config, "cpu")
    assert allowed_kernels(ShardingConfig(kernels=("fused",)), "cpu") == ["fused"]


def locks(ranks: Ranks, directory: Path, prefetch: bool) -> list[list[bool]]:
    """Whether each kernel holds rows before, in and after an evaluation."""
    config = run_config(directory)
    schema = open_dataset(directory).schema
    plan = plan_by_hand(config, schema, ranks, "table_wise")
    for table in plan.plan["embedding_bags"].values():  # type: ignore[attr-defined]
        table.cache_params = CacheParams(prefetch_pipeline=prefetch)
    tables = build_arm(config, parse_recipe("mean"), 0, schema, plan, ranks).model.module.embedding_bags

    def look() -> list[bool]:
        return [kernel.emb_module.lock_cache_line for lookup in tables._lookups for kernel in lookup._emb_modules]

    found = [look()]
    with without_cache_locks(tables):
        found.append(look())
    return [*found, look()]


def test_an_evaluation_holds_no_rows(small_dataset: Path, rank_pool: RankPool) -> None:
    [[before, within, after]] = rank_pool.run(1, locks, small_dataset, True)
    assert before == after == [True] * len(before) != []
    assert within == [False] * len(before)
    [plain] = rank_pool.run(1, locks, small_dataset, False)
    assert plain == [[False] * len(before)] * 3
