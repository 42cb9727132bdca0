"""The description of a cluster for torchrec: units, and torchrec's defaults."""

from torchrec.distributed.planner.constants import CROSS_NODE_BANDWIDTH, DDR_CAP, HBM_MEM_BW, INTRA_NODE_BANDWIDTH

from dlrm_mtl.distributed.topology import Cluster, build_topology
from dlrm_mtl.planning.candidate import build_cluster
from dlrm_mtl.planning.options import PlanConfig

GIB = 2**30


def test_memory_is_in_bytes_per_rank() -> None:
    topology = build_topology(Cluster("cuda", 16, 8, host_memory=800 * GIB, hbm=80 * GIB), reserve=0.25)
    assert (topology.world_size, topology.local_world_size, topology.compute_device) == (16, 8, "cuda")
    assert {device.storage.hbm for device in topology.devices} == {80 * GIB}
    assert {device.storage.ddr for device in topology.devices} == {75 * GIB}


def test_a_cpu_has_no_hbm() -> None:
    topology = build_topology(Cluster("cpu", 2, 2, host_memory=100 * GIB), reserve=0.5)
    assert [(device.storage.hbm, device.storage.ddr) for device in topology.devices] == [(0, 25 * GIB)] * 2


def test_bandwidths_reach_torchrec_in_bytes_per_millisecond() -> None:
    cluster = Cluster("cuda", 16, 8, GIB, GIB, hbm_bandwidth=3e12, intra_host_bandwidth=9e11, inter_host_bandwidth=5e10)
    topology = build_topology(cluster, 0.0)
    assert (topology.hbm_mem_bw, topology.intra_host_bw, topology.inter_host_bw) == (3e9, 9e8, 5e7)


def test_the_defaults_are_torchrecs() -> None:
    options = PlanConfig()
    for cluster in (build_cluster(options, 2), Cluster("cuda", 16, 8, 8 * DDR_CAP, 80 * GIB)):
        topology = build_topology(cluster, 0.0)
        assert topology.hbm_mem_bw == HBM_MEM_BW
        assert topology.intra_host_bw == INTRA_NODE_BANDWIDTH
        assert topology.inter_host_bw == CROSS_NODE_BANDWIDTH
        assert {device.storage.ddr for device in topology.devices} == {DDR_CAP}
