"""The plan, its memory and step time, and the smallest cluster that fits, as one record."""

from importlib.metadata import version
from statistics import mean
from typing import Any

from dlrm_mtl.cli import as_dict
from dlrm_mtl.distributed.plan_records import describe_plan
from dlrm_mtl.distributed.planner import NoPlanFitsError, TablePlan
from dlrm_mtl.distributed.shortfall import shortfalls
from dlrm_mtl.distributed.topology import Cluster
from dlrm_mtl.models.dense_memory import dense_memory
from dlrm_mtl.planning.candidate import Candidate, plan_candidate
from dlrm_mtl.planning.hosts import host_counts, smallest_hosts
from dlrm_mtl.planning.memory import RankMemory, memory_by_rank
from dlrm_mtl.planning.options import PlanConfig
from dlrm_mtl.planning.presets import PRESETS
from dlrm_mtl.planning.step_time import PARTS, StepTime, step_time
from dlrm_mtl.schema import Schema, read_schema

FORMAT = 1


def make_report(config: PlanConfig) -> dict[str, Any]:
    """Plans, and finds the smallest number of hosts. The record is in bytes, milliseconds, and bytes per second.

    Args:
        config: one that ``check`` accepts.

    Raises:
        ValueError: the data set has no valid schema, or an option does not suit it or the device.
    """
    schema = _schema(config)
    candidate = plan_candidate(config, schema, config.hosts)
    cluster, plan = candidate.cluster, candidate.plan
    dense = dense_memory(schema, config.model, config.optimizer.dense)
    reserve = _reserve_per_rank(cluster, config.sharding.reserve)
    dense_fits = dense.bytes <= reserve
    counts = host_counts(config.divides, config.gpus_per_host, config.hosts)

    def fits_on(hosts: int) -> bool:
        return _is_plan(plan_candidate(config, schema, hosts))

    return {
        "format": FORMAT,
        "estimate_of": f"torchrec {version('torchrec')}",
        "name": schema.name,
        "config": as_dict(config),
        "assumptions": {
            "hosts": cluster.hosts,
            "world_size": cluster.world_size,
            "rows_per_rank": config.local_batch_size(config.hosts),
            "hbm": cluster.hbm,
            "host_memory": cluster.host_memory,
            "usable": cluster.usable_memory(config.sharding.reserve),
            "reserve": reserve,
            "hbm_bandwidth": cluster.hbm_bandwidth,
            "intra_host_bandwidth": cluster.intra_host_bandwidth,
            "inter_host_bandwidth": cluster.inter_host_bandwidth,
        },
        "dense": {
            "parameters": dense.total_parameters,
            "bytes": dense.bytes,
            "fits_in_reserve": dense_fits,
            "parts": {
                part: {"parameters": count, "bytes": dense.bytes_per_parameter * count}
                for part, count in dense.parameters.items()
            },
        },
        "fits": _is_plan(candidate) and dense_fits,
        "smallest_hosts": smallest_hosts(counts, config.hosts, _is_plan(candidate), fits_on) if dense_fits else None,
        "largest_hosts_tried": counts[-1],
        "shortfalls": (
            shortfalls(plan.search_space, cluster, config.sharding.reserve) if isinstance(plan, NoPlanFitsError) else []
        ),
        "plan": _describe(plan) if isinstance(plan, TablePlan) else None,
    }


def _schema(config: PlanConfig) -> Schema:
    if config.preset is not None:
        return PRESETS[config.preset].schema
    assert config.data is not None  # PlanConfig.check
    return read_schema(config.data)


def _is_plan(candidate: Candidate) -> bool:
    return isinstance(candidate.plan, TablePlan)


def _reserve_per_rank(cluster: Cluster, reserve: float) -> int:
    """Bytes of a rank's memory, of its GPU or its share of the host's, that are kept free for the dense part."""
    memory = cluster.hbm if cluster.device == "cuda" else cluster.host_memory // cluster.local_world_size
    return int(reserve * memory)


def _describe(plan: TablePlan) -> dict[str, Any]:
    memory = dict(zip(("hbm", "ddr"), memory_by_rank(plan), strict=True))
    times = step_time(plan)
    return {
        "memory": {name: _memory(kind) for name, kind in memory.items() if any(kind.total)},
        "step_time_ms": _step_time(times),
        "imbalance": {
            "step_time": _imbalance(times.totals),
            **{name: _imbalance(kind.total) for name, kind in memory.items() if any(kind.total)},
        },
        "tables": describe_plan(plan.plan),
    }


def _memory(memory: RankMemory) -> dict[str, list[int]]:
    return {
        "tables": list(memory.tables),
        "state": list(memory.state),
        "io": list(memory.io),
        "total": list(memory.total),
    }


def _step_time(times: StepTime) -> dict[str, Any]:
    parts = {part: [getattr(perf, part) for perf in times.ranks] for part in (*PARTS, "input_dist_comms")}
    return {**parts, "total": times.totals, "slowest_rank": times.slowest}


def _imbalance(values: Any) -> float:
    """Maximum over mean."""
    return float(max(values) / mean(values))
