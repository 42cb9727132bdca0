"""The network that NCCL's log names, by lines of real logs, and the line that a job begins with."""

import os
import socket

import pytest
import torch

from dlrm_mtl.distributed.network import NCCL_LOG, describe, nccl_log, nccl_network

INFINIBAND = """\
node-0:5969:5969 [0] NCCL INFO Bootstrap : Using eth0:10.244.2.62<0>
node-0:5969:5969 [0] NCCL INFO NET/Plugin: No plugin found (libnccl-net.so)
NCCL version 2.21.5+cuda12.4
node-0:5969:5969 [0] NCCL INFO NET/IB : Using [0]mlx5_0:1/IB [1]mlx5_1:1/IB [RO]; OOB eth0:10.244.2.62<0>
node-0:5969:5969 [0] NCCL INFO Using non-device net plugin version 0
node-0:5969:5969 [0] NCCL INFO Using network IB
node-0:5969:5969 [0] NCCL INFO DMA-BUF is available on GPU device 0
node-0:5969:5969 [0] NCCL INFO NET/IB : GPU Direct RDMA Enabled for HCA 0 'mlx5_0'
node-0:5969:5969 [0] NCCL INFO Channel 00/0 : 0[0] -> 8[0] [send] via NET/IB/0/GDRDMA
"""
ROCE = """\
NCCL INFO NET/IB : Using [0]mlx5_1:1/RoCE [RO]; OOB net1:192.168.2.5<0>
NCCL INFO Initialized NET plugin IB
NCCL INFO Assigned NET plugin IB to comm
NCCL INFO Using network IB
NCCL INFO NET/IB : GPU Direct RDMA Disabled for HCA 0 'mlx5_1'
NCCL INFO Channel 00/0 : 0[0] -> 8[0] [send] via NET/IB/0
"""
EFA = """\
node-0-0:172:172 [0] NCCL INFO NET/Plugin: Loaded net plugin Libfabric (v11)
node-0-0:172:172 [0] NCCL INFO NET/OFI Selected provider is efa, fabric is efa (found 3 nics)
node-0-0:172:172 [0] NCCL INFO NET/OFI Using Libfabric version 2.4
node-0-0:172:172 [0] NCCL INFO Using network Libfabric
"""
OLD_EFA = """\
worker-0:21:21 [0] NCCL INFO NET/OFI Using aws-ofi-nccl 1.5.0aws
worker-0:21:21 [0] NCCL INFO NET/OFI Selected Provider is efa (found 1 nics)
worker-0:21:21 [0] NCCL INFO Using network AWS Libfabric
NCCL version 2.12.7+cuda11.4
"""
SOCKETS = """\
node-0-0:152:386 [0] NCCL INFO NCCL_SOCKET_IFNAME set by environment to ^docker0,lo
node-0-0:152:386 [0] NCCL INFO NET/IB : No device found.
node-0-0:152:386 [0] NCCL INFO NET/IB : Using [RO]; OOB eth0:10.0.4.51<0>
node-0-0:152:386 [0] NCCL INFO NET/Socket : Using [0]eth0:10.0.4.51<0> [1]eth1:fe80::bc4a:f2ff:fea9:1313%eth1<0>
node-0-0:152:386 [0] NCCL INFO Initialized NET plugin Socket
node-0-0:152:386 [0] NCCL INFO Assigned NET plugin Socket to comm
node-0-0:152:386 [0] NCCL INFO Using network Socket
"""
TCP_OF_LIBFABRIC = OLD_EFA.replace("Provider is efa", "Provider is tcp")
GPU, CPU = torch.device("cuda", 0), torch.device("cpu")


@pytest.mark.parametrize(
    ("log", "name", "devices", "gpu_direct", "is_sockets"),
    [
        (INFINIBAND, "IB", ("mlx5_0:1/IB", "mlx5_1:1/IB"), True, False),
        (ROCE, "IB", ("mlx5_1:1/RoCE",), False, False),
        (EFA, "Libfabric", ("efa",), None, False),
        (OLD_EFA, "Libfabric", ("efa",), None, False),
        (SOCKETS, "Socket", ("eth0", "eth1"), None, True),
        (TCP_OF_LIBFABRIC, "Libfabric", ("tcp",), None, True),
        ("NCCL INFO Using network ODL_TB5", "ODL_TB5", (), None, False),
    ],
)
def test_networks(log: str, name: str, devices: tuple[str, ...], gpu_direct: bool | None, is_sockets: bool) -> None:
    network = nccl_network(log)
    assert network is not None
    assert (network.name, network.devices, network.gpu_direct) == (name, devices, gpu_direct)
    assert network.is_sockets == is_sockets


def test_sockets_between_nodes_are_warned_of() -> None:
    assert "WARNING" in describe(GPU, 16, 8, SOCKETS)
    for log in (INFINIBAND, ROCE, EFA, ""):
        assert "WARNING" not in describe(GPU, 16, 8, log)
    # Within a node NCCL names a network, too, which it does not use.
    assert "Socket" not in describe(GPU, 8, 8, SOCKETS)
    assert "mlx5_1:1/RoCE" in describe(GPU, 16, 8, ROCE)


def test_a_log_without_a_network() -> None:
    assert nccl_network("NCCL version 2.27.5+cuda12.9\n\0\ufffd[0]") is None
    assert "16 ranks on 2 nodes" in describe(GPU, 16, 8, "")


def test_gloo_is_named_with_its_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "ib0")
    assert describe(CPU, 4, 2, "") == "4 ranks on 2 nodes communicate by gloo over ib0"
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    interfaces = {name for _, name in socket.if_nameindex()}
    assert describe(CPU, 2, 2, "").rpartition(" ")[2] in interfaces
    monkeypatch.setattr(socket, "gethostname", lambda: "nowhere.invalid")
    assert describe(CPU, 2, 2, "").endswith(" lo")


def test_nccl_logs_into_a_file_that_is_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NCCL_DEBUG", raising=False)
    monkeypatch.setenv("NCCL_DEBUG_SUBSYS", "COLL")
    with nccl_log(wanted=True) as read:
        assert read() == ""
        path = os.environ["NCCL_DEBUG_FILE"]
        assert NCCL_LOG.items() <= os.environ.items()
        with open(path, "w") as file:
            file.write(EFA)
        assert nccl_network(read()) is not None
    assert not os.path.exists(path)
    assert "NCCL_DEBUG" not in os.environ
    assert os.environ["NCCL_DEBUG_SUBSYS"] == "COLL"


def test_the_users_debugging_of_nccl_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCCL_DEBUG", "WARN")
    before = dict(os.environ)
    for wanted in (True, False):
        with nccl_log(wanted) as read:
            assert (dict(os.environ), read()) == (before, "")
