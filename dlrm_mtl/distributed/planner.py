"""The search for a sharding plan, the same for training and for a hypothetical cluster."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from torch import nn
from torchrec.distributed.planner import EmbeddingShardingPlanner
from torchrec.distributed.planner.enumerators import EmbeddingEnumerator
from torchrec.distributed.planner.proposers import GreedyProposer, GridSearchProposer, Proposer, UniformProposer
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
from torchrec.distributed.planner.types import ParameterConstraints, PlannerError, ShardingOption, Topology
from torchrec.distributed.types import ModuleSharder, ShardingPlan
from torchrec.modules.embedding_modules import EmbeddingBagCollection

from dlrm_mtl.config import ShardingConfig, TableOptimizer
from dlrm_mtl.distributed.caching import CACHED, allowed_kernels, cache_params, fetch_ahead
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.distributed.sharding import allowed_kinds, sharders
from dlrm_mtl.distributed.shortfall import describe_shortfall, shortfalls
from dlrm_mtl.distributed.topology import Cluster, build_topology, cluster_of
from dlrm_mtl.model_schema import ModelSchema
from dlrm_mtl.module_names import OWNED_BY, table_of
from dlrm_mtl.units import format_size

IN_DEVICE_MEMORY = "fused"

GRID_SEARCH_RANKS = 80_000
"""Proposals of the exhaustive search, times ranks: a proposal takes time in proportion to its shards, and torchrec's
own limit of 10,000 proposals, at any number of ranks, would take minutes at a thousand ranks."""


@dataclass(frozen=True)
class TablePlan:
    """A plan and the planner's estimates for it."""

    plan: ShardingPlan
    options: tuple[ShardingOption, ...]
    """By table; their shards have rank, storage in bytes and perf in milliseconds."""
    topology: Topology
    constraints: dict[str, ParameterConstraints]


class NoPlanFitsError(ValueError):
    """No placement of the tables fits into the memory. The message is one line with the figures."""

    def __init__(self, search_space: Sequence[ShardingOption], cluster: Cluster, reserve: float) -> None:
        shapes = {option.name: option.tensor.shape for option in search_space}
        own = sum(OWNED_BY in name for name in shapes)
        lines = chain.from_iterable(map(describe_shortfall, shortfalls(search_space, cluster, reserve)))
        weights = format_size(4 * sum(shape.numel() for shape in shapes.values()))
        super().__init__(
            f"no sharding plan fits: {len(shapes)} tables{f', {own} of them for one task each,' if own else ''} of"
            f" {weights} in float32. {' '.join(map(str.strip, lines))}"
        )
        self.search_space = tuple(search_space)
        """Every option of every table, with its storage."""


def find_plan(
    model: nn.Module,
    schema: ModelSchema,
    config: ShardingConfig,
    table_optimizer: TableOptimizer,
    local_batch_size: int,
    cluster: Cluster,
) -> TablePlan:
    """The best plan by torchrec's cost model. Tables stay in the GPUs' memory if a plan for that is found; else the
    search is repeated with tables that lie in the hosts' memory and are cached. A function of its arguments alone.

    Args:
        model: tables on the meta device, with their optimizer applied, so that its state is counted.

    Raises:
        NoPlanFitsError: no plan fits.
        ValueError: sharding types or kernels that the device or the optimizer does not allow.
    """
    kinds = allowed_kinds(config, table_optimizer, cluster.device)
    allowed = allowed_kernels(config, cluster.device)
    passes = [[IN_DEVICE_MEMORY]] if IN_DEVICE_MEMORY in allowed else []
    if CACHED in allowed:
        passes.append(allowed)
    for kernels in passes:
        try:
            return _search(model, schema, config, kinds, kernels, local_batch_size, cluster)
        except NoPlanFitsError as error:
            failure = error
    raise failure


def plan_sharding(
    model: nn.Module,
    schema: ModelSchema,
    config: ShardingConfig,
    table_optimizer: TableOptimizer,
    local_batch_size: int,
    ranks: Ranks,
) -> ShardingPlan:
    """:func:`find_plan` for the ranks at hand, on rank 0; the same plan on every rank. Collective.

    Raises:
        ValueError: on every rank: sharding types that this device or optimizer does not allow, or no plan fits.
    """

    def plan() -> ShardingPlan | None:
        if not ranks.is_first:
            return None
        best = find_plan(model, schema, config, table_optimizer, local_batch_size, cluster_of(ranks)).plan
        if config.prefetch:
            fetch_ahead(best)
        return best

    plan_of_first = ranks.broadcast(ranks.run_on_all(plan))
    assert plan_of_first is not None
    return plan_of_first


def _search(
    model: nn.Module,
    schema: ModelSchema,
    config: ShardingConfig,
    kinds: Sequence[str],
    kernels: Sequence[str],
    local_batch_size: int,
    cluster: Cluster,
) -> TablePlan:
    topology = build_topology(cluster, config.reserve)
    constraints = {
        table.name: ParameterConstraints(
            sharding_types=list(kinds),
            compute_kernels=list(kernels),
            min_partition=config.min_partition,
            cache_params=cache_params(config),
            pooling_factors=[max(feature.mean_length, 1e-3) for feature in schema.tables[table_of(table.name)]],
        )
        for tables in model.modules()
        if isinstance(tables, EmbeddingBagCollection)
        for table in tables.embedding_bag_configs()
    }
    enumerator = _OrderedEnumerator(topology, local_batch_size, constraints)
    best: list[ShardingOption] = []

    def keep(options: list[ShardingOption]) -> list[ShardingOption]:
        best.extend(options)
        return options

    planner = EmbeddingShardingPlanner(
        topology=topology,
        batch_size=local_batch_size,
        enumerator=enumerator,
        storage_reservation=FixedPercentageStorageReservation(config.reserve),
        proposer=_proposers(cluster.world_size),
        constraints=constraints,
        stats=[],
        callbacks=[keep],
    )
    try:
        plan = planner.plan(model, sharders(config.comms))
    except PlannerError:
        raise NoPlanFitsError(enumerator.last_stored_search_space or (), cluster, config.reserve) from None
    return TablePlan(plan, tuple(best), topology, constraints)


def _proposers(world_size: int) -> list[Proposer]:
    """torchrec's own four. Each finds the best plan of some clusters; the exhaustive one is for few tables."""
    return [
        GridSearchProposer(min(10_000, GRID_SEARCH_RANKS // world_size)),
        GreedyProposer(),
        GreedyProposer(use_depth=False),
        UniformProposer(),
    ]


class _OrderedEnumerator(EmbeddingEnumerator):
    """torchrec's, with the options in the order of their constraints. It takes them out of sets of strings, so that
    which of two equally good plans is taken would depend on the process's hash seed."""

    def enumerate(self, module: nn.Module, sharders: list[ModuleSharder[nn.Module]]) -> list[ShardingOption]:
        return sorted(super().enumerate(module, sharders), key=self._place)

    def _place(self, option: ShardingOption) -> tuple[int, int]:
        constraints = self._constraints[option.name]
        return (
            constraints.sharding_types.index(option.sharding_type),
            constraints.compute_kernels.index(option.compute_kernel),
        )
