"""Sums of a few numbers over the CPU ranks of one machine, through sockets between each two of them.

gloo leaves every collective to threads of its own, for which a rank that has one CPU must stop what it computes; a
socket takes the numbers at once, and the kernel keeps them until the other rank asks for them.
"""

import os
import secrets
import socket
import struct
import sys
from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist

MAX_RANKS = 8
"""More ranks use the process group: each would send to each other."""

MAX_VALUES = 1 << 12
"""More values use the process group: of so many, a socket takes several messages without waiting."""

_NAME_BYTES = 32
_GREETING = struct.Struct("<i")
_CREDENTIALS = struct.Struct("3i")
_NUMBER = struct.Struct("<d")
_LONGEST = 8 * (MAX_VALUES + 1)


class DirectExchange:
    """Sockets to all other ranks. Each rank sends its numbers to each other one, and all add them up in the order of
    ranks: to the same sums, bit by bit.

    Args:
        sockets: by rank.
    """

    def __init__(self, rank: int, sockets: Mapping[int, socket.socket]) -> None:
        self._rank = rank
        self._sockets = sockets
        self._sent = 0

    def start(self, values: Sequence[float]) -> "DirectSum":
        """Sends this rank's values, and does not wait. Every rank calls it, in the same order.

        Raises:
            RuntimeError: a rank has gone, or takes no messages.
        """
        self._sent += 1
        message = struct.pack(f"<{len(values) + 1}d", self._sent, *values)
        for rank, peer in self._sockets.items():
            try:
                peer.send(message)
            except OSError as error:
                raise RuntimeError(f"rank {rank} cannot be reached from rank {self._rank}: {error}") from None
        return DirectSum(self, self._sent, values)

    def receive(self, number: int, values: Sequence[float]) -> list[float]:
        """The sum over ranks of what each sent in its call of this number: ``values`` on this rank.

        Raises:
            RuntimeError: a rank has gone, or did not send it within the process group's timeout.
        """
        of_rank = {rank: self._receive(rank, number, len(values)) for rank in self._sockets}
        of_rank[self._rank] = values
        in_order = [of_rank[rank] for rank in sorted(of_rank)]
        return [sum(parts) for parts in zip(*in_order, strict=True)]

    def _receive(self, rank: int, number: int, count: int) -> Sequence[float]:
        form = struct.Struct(f"<{count + 1}d")
        while True:
            try:
                message = self._sockets[rank].recv(_LONGEST)
            except OSError as error:
                raise RuntimeError(f"rank {self._rank} waited for rank {rank}: {error}") from None
            if not message:
                raise RuntimeError(f"rank {rank} has closed its connection to rank {self._rank}")
            [sent] = _NUMBER.unpack_from(message)
            if sent < number:
                continue  # nobody waited for it: as after a checkpoint was loaded
            if sent > number or len(message) != form.size:
                raise RuntimeError(
                    f"rank {rank} is at its sum {sent:.0f} of {len(message) // 8 - 1} values, rank"
                    f" {self._rank} at {number} of {count}"
                )
            return form.unpack(message)[1:]

    def __del__(self) -> None:
        for peer in self._sockets.values():
            peer.close()


class DirectSum:
    """A sum under way."""

    def __init__(self, exchange: DirectExchange, number: int, values: Sequence[float]) -> None:
        self._exchange: DirectExchange | None = exchange
        self._number = number
        self._values = values

    def wait(self) -> Sequence[float]:
        """The sums, as soon as all other ranks' values are here. See :meth:`DirectExchange.receive`."""
        if self._exchange is not None:
            self._values = self._exchange.receive(self._number, self._values)
            self._exchange = None
        return self._values


def connect_ranks(group: dist.ProcessGroup) -> DirectExchange | None:
    """Connects the ranks of a gloo group, if they are few and share a Linux machine; else None, on all. Collective.

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
                sockets[lower] = peer
        # On another machine, or in another network namespace, nobody answers to these names.
        met = torch.tensor(len(sockets) == rank, dtype=torch.int64, device="cpu")
        dist.all_reduce(met, dist.ReduceOp.MIN, group=group)
        if met:
            sockets.update(_answer(server) for _ in range(rank + 1, size))
    for peer in sockets.values():
        peer.settimeout(timeout)
    exchange = DirectExchange(rank, sockets)
    return exchange if met else None


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
