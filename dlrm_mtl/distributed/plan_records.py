"""A sharding plan as plain records and as text."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import prod
from typing import Any

from torchrec.distributed.types import ShardingPlan

from dlrm_mtl.module_names import unescape
from dlrm_mtl.units import format_size


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
                    "table": unescape(name),
                    "sharding_type": parameter.sharding_type,
                    "compute_kernel": parameter.compute_kernel,
                    "shards": shards,
                }
            )
    return sorted(tables, key=lambda table: str(table["table"]))


def summarize_plan(tables: Sequence[Mapping[str, Any]]) -> str:
    """The plan in a line: numbers of tables by sharding type and kernel, and the size of their float32 weights, in
    total and on the fullest rank."""
    kinds = Counter((table["sharding_type"], table["compute_kernel"]) for table in tables)
    by_rank: Counter[int] = Counter()
    for table in tables:
        for shard in table["shards"]:
            by_rank[shard["rank"]] += 4 * prod(shard["size"])
    counts = ", ".join(f"{count} {kind} ({kernel})" for (kind, kernel), count in kinds.most_common())
    return (
        f"{len(tables)} table{'s' * (len(tables) != 1)}: {counts}; {format_size(by_rank.total())} of weights,"
        f" at most {format_size(max(by_rank.values()))} on a rank"
    )


def format_plan(tables: Sequence[Mapping[str, Any]]) -> str:
    """The plan as a text table. Shards of one size on consecutive ranks are joined, so that a row-wise table of a
    thousand ranks takes one line."""
    width = max(len("table"), *(len(table["table"]) for table in tables))
    lines = [f"{'table':{width}}  {'sharding':18} {'kernel':18} shards (ranks: rows x columns of each)"]
    for table in tables:
        shards = ", ".join(map(_format_run, _runs(table["shards"])))
        lines.append(f"{table['table']:{width}}  {table['sharding_type']:18} {table['compute_kernel']:18} {shards}")
    return "\n".join(lines)


def _runs(shards: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    runs = [[shards[0]]]
    for before, shard in pairwise(shards):
        if shard["size"] == before["size"] and shard["rank"] == before["rank"] + 1:
            runs[-1].append(shard)
        else:
            runs.append([shard])
    return runs


def _format_run(run: Sequence[Mapping[str, Any]]) -> str:
    first, last = run[0]["rank"], run[-1]["rank"]
    ranks = str(first) if first == last else f"{first}-{last}"
    return f"{ranks}: {' x '.join(map(str, run[0]['size']))}"
