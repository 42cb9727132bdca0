"""The machines that tables are sharded over: those at hand, or a hypothetical cluster."""

from dataclasses import dataclass

import torch
from torchrec.distributed.planner.constants import CROSS_NODE_BANDWIDTH, HBM_MEM_BW, INTRA_NODE_BANDWIDTH
from torchrec.distributed.planner.types import HardwareConfig, KernelConfig, Topology, TopologyFactory, TrainerConfig

from dlrm_mtl.distributed.host_memory import host_memory
from dlrm_mtl.distributed.processes import Ranks

MS_PER_S = 1000


@dataclass(frozen=True)
class Cluster:
    """The machines that the planner assumes. Memory in bytes; bandwidths in bytes per second, by default torchrec's."""

    device: str
    """cuda or cpu."""
    world_size: int
    local_world_size: int
    """Ranks per host."""
    host_memory: int
    """Of one host, or what its container or job may use of it."""
    hbm: int = 0
    """Of one GPU."""
    hbm_bandwidth: float = HBM_MEM_BW * MS_PER_S
    intra_host_bandwidth: float = INTRA_NODE_BANDWIDTH * MS_PER_S
    """Between two GPUs of a host."""
    inter_host_bandwidth: float = CROSS_NODE_BANDWIDTH * MS_PER_S
    """Of one GPU to other hosts."""

    @property
    def hosts(self) -> int:
        return self.world_size // self.local_world_size

    def usable_memory(self, reserve: float) -> dict[str, int]:
        """Bytes that tables may take on a rank: of HBM (on GPUs) and of its share of the host's memory (DDR).

        Args:
            reserve: share of each memory that is kept free.
        """
        ddr = {"ddr": int((1 - reserve) * self.host_memory) // self.local_world_size}
        return {"hbm": int((1 - reserve) * self.hbm), **ddr} if self.device == "cuda" else ddr


def cluster_of(ranks: Ranks) -> Cluster:
    """The machines at hand, each like this one."""
    on_gpus = ranks.device.type == "cuda"
    return Cluster(
        device=ranks.device.type,
        world_size=ranks.world_size,
        local_world_size=ranks.local_world_size,
        host_memory=host_memory(),
        hbm=torch.cuda.get_device_properties(ranks.device).total_memory if on_gpus else 0,
    )


def build_topology(cluster: Cluster, reserve: float) -> Topology:
    """torchrec's description of a cluster, in bytes and bytes per millisecond.

    Args:
        reserve: share of the hosts' memory that is kept free. torchrec's storage reservation covers only memory of
            GPUs.
    """
    return TopologyFactory.create_topology(
        TrainerConfig(world_size=cluster.world_size, local_world_size=cluster.local_world_size),
        HardwareConfig(
            hbm_cap_bytes=cluster.hbm if cluster.device == "cuda" else None,
            ddr_cap_bytes=cluster.usable_memory(reserve)["ddr"],
            hbm_mem_bw=cluster.hbm_bandwidth / MS_PER_S,
            intra_host_bw=cluster.intra_host_bandwidth / MS_PER_S,
            inter_host_bw=cluster.inter_host_bandwidth / MS_PER_S,
        ),
        # Without this the factory takes torchrec's constants instead of the bandwidths above.
        KernelConfig(compute_device=cluster.device, use_hardware_based_bandwidth=True),
    )
