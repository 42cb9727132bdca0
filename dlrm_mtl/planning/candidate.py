"""The plan for one number of hosts, by the code that plans a training."""

from dataclasses import dataclass

import torch
from torch import nn

from dlrm_mtl.distributed.planner import NoPlanFitsError, TablePlan, find_plan
from dlrm_mtl.distributed.topology import Cluster
from dlrm_mtl.planning.options import PlanConfig
from dlrm_mtl.schema import Schema
from dlrm_mtl.training.arm import build_table_model
from dlrm_mtl.units import parse_bandwidth, parse_size


@dataclass(frozen=True)
class Candidate:
    """A cluster, and the plan for it or the reason why there is none."""

    cluster: Cluster
    plan: TablePlan | NoPlanFitsError


def plan_candidate(config: PlanConfig, schema: Schema, hosts: int) -> Candidate:
    """Plans for a number of hosts.

    Raises:
        ValueError: the ranks do not divide the batch, or an option does not suit data set or device.
    """
    cluster = build_cluster(config, hosts)
    model: nn.Module = build_table_model(schema, config.model, config.optimizer, torch.device(cluster.device))
    batch_size = config.local_batch_size(hosts)
    try:
        plan = find_plan(model, schema, config.sharding, config.optimizer.table, batch_size, cluster)
        return Candidate(cluster, plan)
    except NoPlanFitsError as error:
        return Candidate(cluster, error)


def build_cluster(config: PlanConfig, hosts: int) -> Cluster:
    """A cluster of a number of the hosts that the options describe."""
    return Cluster(
        device=config.device,
        world_size=hosts * config.gpus_per_host,
        local_world_size=config.gpus_per_host,
        host_memory=parse_size("ddr", config.ddr),
        hbm=parse_size("hbm", config.hbm) if config.device == "cuda" else 0,
        hbm_bandwidth=parse_bandwidth("hbm_bandwidth", config.hbm_bandwidth),
        intra_host_bandwidth=parse_bandwidth("intra_host_bandwidth", config.intra_host_bandwidth),
        inter_host_bandwidth=parse_bandwidth("inter_host_bandwidth", config.inter_host_bandwidth),
    )
