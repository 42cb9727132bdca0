"""Which network the collectives use, in words."""

import fcntl
import os
import re
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

NCCL_LOG = {"NCCL_DEBUG": "INFO", "NCCL_DEBUG_SUBSYS": "INIT,NET"}
"""Makes NCCL write what it finds while it starts."""

_DEVICES = {
    "IB": r"\[\d+\]([\w.-]+:\d+/\w+)",
    "Socket": r"\[\d+\]([^\s:\[]+):",
    "Libfabric": r"NET/OFI Selected [Pp]rovider is ([^\s,]+)",
}
"""What names the devices of a network in its line of the log."""

SIOCGIFADDR = 0x8915


@dataclass(frozen=True)
class NcclNetwork:
    """What NCCL's log says about the network between nodes."""

    name: str
    """``IB`` (InfiniBand and RoCE), ``Socket``, or that of a plugin, such as ``Libfabric``."""
    devices: tuple[str, ...]
    """``mlx5_0:1/IB`` or ``mlx5_0:1/RoCE``, interfaces of sockets, or the provider of libfabric."""
    gpu_direct: bool | None
    """Whether adapters read and write the memory of GPUs; None where the log does not say."""

    @property
    def is_sockets(self) -> bool:
        """Whether all goes through the kernel's TCP: for libfabric without a fast provider too."""
        return self.name == "Socket" or self.devices in (("tcp",), ("sockets",))

    def __str__(self) -> str:
        devices = f" ({', '.join(self.devices)})" if self.devices else ""
        direct = {True: ", GPUDirect RDMA", False: ", no GPUDirect RDMA", None: ""}[self.gpu_direct]
        return f"{self.name}{devices}{direct}"


def nccl_network(log: str) -> NcclNetwork | None:
    """What a log of NCCL (2.12 to 2.30) says about the network; None where it names none."""
    names = re.findall(r"(?:Using network|Assigned NET plugin) (?:AWS )?(\S+)", log)
    if not names:
        return None
    lines = "\n".join(line for line in log.splitlines() if re.search(r"NET/\w+ ?: Using \[|Selected [Pp]rovider", line))
    devices = re.findall(_DEVICES[names[0]], lines) if names[0] in _DEVICES else ()
    direct = "GDRDMA" in log or "GPU Direct RDMA Enabled" in log
    said = direct or "GPU Direct RDMA Disabled" in log
    return NcclNetwork(names[0], tuple(dict.fromkeys(devices)), direct if said else None)


@contextmanager
def nccl_log(wanted: bool) -> Iterator[Callable[[], str]]:
    """Makes NCCL, which has not started yet, log into a temporary file within the block.

    Args:
        wanted: False: nothing is logged. Nor is it where the user has set NCCL_DEBUG.

    Returns:
        what reads the log so far; empty where there is none.
    """
    if not wanted or "NCCL_DEBUG" in os.environ:
        yield str
        return
    with tempfile.TemporaryDirectory(prefix="nccl-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "log"
        variables = {**NCCL_LOG, "NCCL_DEBUG_FILE": str(path)}
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        try:
            yield lambda: path.read_text(errors="replace") if path.exists() else ""
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def describe(device: torch.device, world_size: int, local_world_size: int, log: str) -> str:
    """What the ranks communicate by, with a warning where it is slow.

    Args:
        log: NCCL's.
    """
    nodes = world_size // local_world_size
    ranks = f"{world_size} ranks on {nodes} node{'s' if nodes > 1 else ''}"
    if device.type != "cuda":
        return f"{ranks} communicate by gloo over {gloo_interface()}"
    if nodes == 1:
        return f"{ranks} communicate by NCCL"
    network = nccl_network(log)
    if network is None:
        return f"{ranks} communicate by NCCL, whose log (NCCL_DEBUG=INFO) names the network"
    line = f"{ranks} communicate by NCCL over {network}"
    if network.is_sockets:
        line += "\nWARNING: NCCL uses sockets between nodes with GPUs, see docs/launching/networks.md"
    return line


def gloo_interface() -> str:
    """The interface, or the address, that gloo listens on: GLOO_SOCKET_IFNAME, else that of the host's name, else the
    loopback interface."""
    named = os.environ.get("GLOO_SOCKET_IFNAME")
    if named:
        return named
    try:
        address = str(socket.getaddrinfo(socket.gethostname(), None)[0][4][0])
    except OSError:
        return "lo"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # an interface without an address
                request = struct.pack("256s", name.encode()[:15])
                if socket.inet_ntoa(fcntl.ioctl(probe, SIOCGIFADDR, request)[20:24]) == address:
                    return name
    return address
