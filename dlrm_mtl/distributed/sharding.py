"""The sharding plan: which rank holds which part of which table."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.planner import EmbeddingShardingPlanner, ParameterConstraints
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
from torchrec.distributed.planner.types import (
    HardwareConfig,
    KernelConfig,
    PlannerError,
    Topology,
    TopologyFactory,
    TrainerConfig,
)
from torchrec.distributed.types import ModuleSharder, ShardingPlan

from dlrm_mtl.config import CommsConfig, ShardingConfig, TableOptimizer
from dlrm_mtl.distributed.caching import allowed_kernels, cache_params, fetch_ahead
from dlrm_mtl.distributed.comms import comm_codecs
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.schema import Schema

CPU_KINDS = ("table_wise", "column_wise", "table_column_wise")
COLUMN_KINDS = ("column_wise", "table_column_wise", "grid_shard")


def sharders(comms: CommsConfig | None = None) -> list[ModuleSharder[nn.Module]]:
    """The sharders of the model's tables; by default everything travels as float32."""
    codecs = comm_codecs(comms or CommsConfig())
    return [EmbeddingBagCollectionSharder(qcomm_codecs_registry=codecs)]  # type: ignore[list-item]


def plan_sharding(
    model: nn.Module,
    schema: Schema,
    config: ShardingConfig,
    table_optimizer: TableOptimizer,
    local_batch_size: int,
    ranks: Ranks,
) -> ShardingPlan:
    """Plans on rank 0 from the real memory, batch size and pooling factors; the same plan on every rank. Collective.

    Args:
        model: tables on the meta device, with their optimizer applied, so that its state is counted.

    Raises:
        ValueError: on every rank: sharding types that this device or optimizer does not allow, or no plan fits.
    """
    kinds = allowed_kinds(config, table_optimizer, ranks.device.type)
    planner = EmbeddingShardingPlanner(
        topology=_topology(ranks, config.reserve),
        batch_size=local_batch_size,
        storage_reservation=FixedPercentageStorageReservation(config.reserve),
        constraints=_constraints(schema, kinds, config, ranks.device.type),
    )
    plans: list[ShardingPlan | None] = [None]

    def plan() -> None:
        if ranks.is_first:
            try:
                plans[0] = planner.plan(model, sharders(config.comms))
                if config.prefetch:
                    fetch_ahead(plans[0])
            except PlannerError as error:
                raise ValueError(f"no sharding plan fits: {error}") from None

    ranks.agree(plan)
    torch.distributed.broadcast_object_list(plans, src=0, group=ranks.group)
    assert plans[0] is not None
    return plans[0]


def allowed_kinds(config: ShardingConfig, table_optimizer: TableOptimizer, device: str) -> list[str]:
    """The sharding types the planner may choose from.

    Raises:
        ValueError: a type that the CPU cannot run, or that would make training depend on the plan.
    """
    if not config.kinds:
        return ["table_wise"] if device == "cpu" else ["table_wise", "row_wise", "table_row_wise"]
    for kind in config.kinds:
        if device == "cpu" and kind not in CPU_KINDS:
            raise ValueError(f"sharding.kinds has {kind!r}, expected one of {', '.join(CPU_KINDS)} on a CPU")
        if table_optimizer == "rowwise_adagrad" and kind in COLUMN_KINDS:
            raise ValueError(
                f"sharding.kinds has {kind!r}, expected no column shards with optimizer.table=rowwise_adagrad: it"
                " keeps one value per row and column shard, so the plan would change the training"
            )
    return list(config.kinds)


def describe_plan(plan: ShardingPlan) -> list[dict[str, Any]]:
    """One record per table: name, sharding type, compute kernel, and the shards' sizes and ranks."""
    tables = []
    for module in plan.plan.values():
        for name, parameter in module.items():  # type: ignore[attr-defined]
            shards = [
                {"rank": shard.placement.rank(), "offset": list(shard.shard_offsets), "size": list(shard.shard_sizes)}
                for shard in parameter.sharding_spec.shards
            ]
            tables.append(
                {
                    "table": name,
                    "sharding_type": parameter.sharding_type,
                    "compute_kernel": parameter.compute_kernel,
                    "shards": shards,
                }
            )
    return sorted(tables, key=lambda table: str(table["table"]))


def format_plan(tables: Sequence[Mapping[str, Any]]) -> str:
    """The plan as a text table."""
    width = max(len("table"), *(len(table["table"]) for table in tables))
    lines = [f"{'table':{width}}  {'sharding':18} {'kernel':18} shards (rank: rows x columns)"]
    for table in tables:
        shards = ", ".join(f"{shard['rank']}: {' x '.join(map(str, shard['size']))}" for shard in table["shards"])
        lines.append(f"{table['table']:{width}}  {table['sharding_type']:18} {table['compute_kernel']:18} {shards}")
    return "\n".join(lines)


def _topology(ranks: Ranks, reserve: float) -> Topology:
    host_memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # torchrec's storage reservation keeps back memory of GPUs alone.
    hardware = HardwareConfig(ddr_cap_bytes=int((1 - reserve) * host_memory) // ranks.local_world_size)
    if ranks.device.type == "cuda":
        hardware.hbm_cap_bytes = torch.cuda.get_device_properties(ranks.device).total_memory
    return TopologyFactory.create_topology(
        TrainerConfig(world_size=ranks.world_size, local_world_size=ranks.local_world_size),
        hardware,
        KernelConfig(compute_device=ranks.device.type),
    )


def _constraints(
    schema: Schema, kinds: list[str], config: ShardingConfig, device: str
) -> dict[str, ParameterConstraints]:
    kernels = allowed_kernels(config, device)
    return {
        table: ParameterConstraints(
            sharding_types=kinds,
            compute_kernels=kernels,
            min_partition=config.min_partition,
            cache_params=cache_params(config),
            pooling_factors=[max(feature.mean_length, 1e-3) for feature in features],
        )
        for table, features in schema.tables.items()
    }
