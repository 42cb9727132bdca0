"""Unix sockets between the ranks of one machine: to find out whether they share one, and who has gone."""

import os
import secrets
import socket
import struct
import sys
from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.distributed as dist

MAX_RANKS = 8
"""More ranks do not meet: each would call each other."""

_NAME_BYTES = 32
_GREETING = struct.Struct("<i")
_CREDENTIALS = struct.Struct("3i")


class Met(NamedTuple):
    """The ranks of a process group that share a machine."""

    sockets: Mapping[int, socket.socket]
    """To all other ranks, by rank."""
    timeout_s: float
    """The group's, which the sockets' operations have, too."""


def meet_on_machine(group: dist.ProcessGroup, willing: bool) -> Met | None:
    """Connects the ranks of a gloo group, if they are few, on one Linux machine, and all of them willing; else None, on
    all. Collective.

    Raises:
        RuntimeError: the ranks did not meet within the process group's timeout.
    """
    rank, size = dist.get_rank(group), group.size()
    if sys.platform != "linux" or not 1 < size <= MAX_RANKS:
        return None
    backend = group._get_backend(torch.device("cpu"))
    if not (dist.is_gloo_available() and isinstance(backend, dist.ProcessGroupGloo)):
        return None
    timeout = backend.options._timeout.total_seconds()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        # A name that no file system keeps and no other job has.
        name = b"\0" + secrets.token_bytes(_NAME_BYTES - 1)
        server.bind(name)
        server.listen(size)
        server.settimeout(timeout)
        names = list(torch.zeros(size, _NAME_BYTES, dtype=torch.uint8, device="cpu"))
        dist.all_gather(names, torch.tensor(list(name), dtype=torch.uint8, device="cpu"), group=group)
        sockets = {}
        for lower in range(rank):
            peer = _call(bytes(names[lower].tolist()), rank)
            if peer is not None:
                peer.settimeout(timeout)
                sockets[lower] = peer
        # On another machine, or in another network namespace, nobody answers to these names.
        met = torch.tensor(willing and len(sockets) == rank, dtype=torch.int64, device="cpu")
        dist.all_reduce(met, dist.ReduceOp.MIN, group=group)
        if met:
            sockets.update(_answer(server) for _ in range(rank + 1, size))
            return Met(sockets, timeout)
    for peer in sockets.values():
        peer.close()
    return None


def _call(name: bytes, rank: int) -> socket.socket | None:
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        peer.connect(name)
    except OSError:
        peer.close()
        return None
    peer.send(_GREETING.pack(rank))
    return peer


def _answer(server: socket.socket) -> tuple[int, socket.socket]:
    """The next rank that called, and the socket to it."""
    try:
        peer, _ = server.accept()
        while _user(peer) != os.getuid():  # names are no secret on the machine
            peer.close()
            peer, _ = server.accept()
        peer.settimeout(server.gettimeout())
        [rank] = _GREETING.unpack(peer.recv(_GREETING.size))
    except OSError as error:
        raise RuntimeError(f"ranks of one machine did not meet: {error}") from None
    return rank, peer


def _user(peer: socket.socket) -> int:
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[1])  # after the process, before the user's group
