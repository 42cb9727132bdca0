"""Connections between rank 0 and every rank, beside the collectives: they close when a process ends, however it ends,
and stay open while it is stopped."""

import socket
from contextlib import suppress

from dlrm_mtl.distributed.messages import MAX_BYTES, Message, decode, encode

SEND_S = 5
"""Seconds after which an end that takes no message in counts as gone."""


class Link:
    """One end of a connection, over which messages come and go.

    Args:
        peer: a connected socket, which the link owns.
        rank: the rank at the other end.
    """

    def __init__(self, peer: socket.socket, rank: int) -> None:
        peer.settimeout(SEND_S)
        self.rank = rank
        self._peer = peer
        self._begun = b""

    def fileno(self) -> int:
        return self._peer.fileno()

    def send(self, message: Message) -> None:
        """Sends a message; to one that has gone it is not sent."""
        with suppress(OSError):
            self._peer.sendall(encode(message))

    def receive(self) -> list[Message] | None:
        """The messages that have come, maybe none yet; None if the other end has gone, or sends what is no message. To
        be called when there is something to read."""
        try:
            part = self._peer.recv(MAX_BYTES)
            *lines, self._begun = (self._begun + part).split(b"\n")
            if not part or len(self._begun) > MAX_BYTES:
                return None
            return [decode(line, self.rank) for line in lines]
        except (OSError, ValueError):
            return None

    def close(self) -> None:
        self._peer.close()


def pair(rank: int) -> tuple[Link, Link]:
    """Both ends of a connection of a rank with itself."""
    one, other = socket.socketpair()
    return Link(one, rank), Link(other, rank)
