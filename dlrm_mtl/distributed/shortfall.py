"""By how much a cluster's memory is too small."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torchrec.distributed.planner.types import ShardingOption

from dlrm_mtl.distributed.topology import Cluster
from dlrm_mtl.module_names import unescape
from dlrm_mtl.units import format_size

MEMORIES: Mapping[str, str] = MappingProxyType({"hbm": "HBM", "ddr": "host memory"})
"""In words."""

Shortfall = Mapping[str, Any]


def shortfalls(search_space: Sequence[ShardingOption], cluster: Cluster, reserve: float) -> list[Shortfall]:
    """For each compute kernel, all tables in it, each in the sharding type that takes the least memory: what they need
    and what there is, in bytes over all ranks; and the largest shard that is left, which one rank must hold.

    A need within the memory proves nothing: shards must fit, too, and the planner may not find the placement.
    """
    kernels = sorted({option.compute_kernel for option in search_space})
    has = cluster.usable_memory(reserve)
    return [_shortfall(kernel, search_space, has, cluster.world_size) for kernel in kernels]


def describe_shortfall(shortfall: Shortfall) -> Iterator[str]:
    """In lines of text."""
    for memory in shortfall["memory"]:
        where, shard = MEMORIES[memory["memory"]], memory["largest_shard"]
        yield (
            f"With every table {shortfall['compute_kernel']}: {where} of {format_size(memory['needs'])} at least, there"
            f" is {format_size(memory['has'])}"
            + (f": {format_size(memory['missing'])} too little." if memory["missing"] else ".")
        )
        if shard["needs"] > shard["has"]:
            yield (
                f"  A shard of {shard['table']} needs {format_size(shard['needs'])} of one rank's"
                f" {format_size(shard['has'])}: {format_size(shard['needs'] - shard['has'])} too little."
            )


def _shortfall(kernel: str, space: Sequence[ShardingOption], has: Mapping[str, int], world_size: int) -> Shortfall:
    options: dict[str, list[ShardingOption]] = {}
    for option in space:
        if option.compute_kernel == kernel:
            options.setdefault(option.name, []).append(option)
    memories = [_of_memory(memory, options, has[memory], world_size) for memory in has]
    return {"compute_kernel": kernel, "memory": [found for found in memories if found["needs"]]}


def _of_memory(memory: str, options: Mapping[str, list[ShardingOption]], has: int, world_size: int) -> dict[str, Any]:
    needs = sum(min(getattr(o.total_storage, memory) for o in choices) for choices in options.values())
    largest = {
        table: min(max(getattr(shard.storage, memory) for shard in option.shards) for option in choices)
        for table, choices in options.items()
    }
    table = max(largest, key=largest.__getitem__)
    return {
        "memory": memory,
        "needs": needs,
        "has": has * world_size,
        "missing": max(0, needs - has * world_size),
        "largest_shard": {"table": unescape(table), "needs": largest[table], "has": has},
    }
