"""The memory that a plan takes on each rank, by torchrec's storage estimator."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

from torchrec.distributed.planner.shard_estimators import EmbeddingStorageEstimator
from torchrec.distributed.planner.types import ShardingOption
from torchrec.distributed.planner.utils import build_sharder_data_map, sharder_name

from dlrm_mtl.distributed.planner import TablePlan
from dlrm_mtl.distributed.sharding import sharders


@dataclass(frozen=True)
class RankMemory:
    """Bytes of one kind of memory, by rank."""

    tables: tuple[int, ...]
    """Weights; of a cached table, in HBM, the cache."""
    state: tuple[int, ...]
    """The table optimizer's state, and the bookkeeping of caches."""
    io: tuple[int, ...]
    """Ids received and embeddings sent for the part of the global batch that a rank's shards serve."""

    @property
    def total(self) -> tuple[int, ...]:
        return tuple(map(sum, zip(self.tables, self.state, self.io, strict=True)))


def memory_by_rank(plan: TablePlan) -> tuple[RankMemory, RankMemory]:
    """HBM and host memory that the tables take.

    The estimator gives one number per shard, so three estimates are subtracted: for inference (weights alone), for an
    empty batch (weights and state), and for the batch (all).
    """
    weights = _estimate(plan, inference=True)
    with_state = _estimate(plan, batch_size=0)
    everything = _estimate(plan)
    hbm, ddr = (
        RankMemory(
            tables=tuple(first),
            state=tuple(second - one for one, second in zip(first, both, strict=True)),
            io=tuple(last - two for two, last in zip(both, total, strict=True)),
        )
        for first, both, total in zip(weights, with_state, everything, strict=True)
    )
    return hbm, ddr


def _estimate(plan: TablePlan, inference: bool = False, batch_size: int | None = None) -> tuple[list[int], list[int]]:
    """HBM and host memory by rank, in bytes."""
    options = [_fresh(option, batch_size) for option in plan.options]
    estimator = EmbeddingStorageEstimator(plan.topology, plan.constraints, is_inference=inference)
    estimator.estimate(options, build_sharder_data_map({sharder_name(one.module_type): one for one in sharders()}))
    return _sum_by_rank(options, plan.topology.world_size)


def _sum_by_rank(options: Sequence[ShardingOption], world_size: int) -> tuple[list[int], list[int]]:
    """HBM and host memory of the options' shards, by rank."""
    hbm, ddr = [0] * world_size, [0] * world_size
    for option in options:
        for shard in option.shards:
            hbm[shard.rank] += shard.storage.hbm
            ddr[shard.rank] += shard.storage.ddr
    return hbm, ddr


def _fresh(option: ShardingOption, batch_size: int | None) -> ShardingOption:
    """A copy with copied shards, whose estimates the estimator may overwrite."""
    fresh = copy.copy(option)
    fresh.shards = [copy.copy(shard) for shard in option.shards]
    if batch_size is not None:
        fresh.batch_size = batch_size
    return fresh
