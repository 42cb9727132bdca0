"""Connections between rank 0 and every rank, beside the collectives. The kernel closes them when a process ends, but
not while it is stopped."""

import socket
from contextlib import suppress

from dlrm_mtl.distributed.messages import MAX_BYTES, Message, decode, encode

SEND_S = 5
"""Seconds that sending may take before the other end is taken to be lost."""


class Link:
    """One end of a connection for messages.

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
        """Sends a message, unless the connection is closed."""
        with suppress(OSError):
            self._peer.sendall(encode(message))

    def receive(self) -> list[Message] | None:
        """The messages that have arrived in full. To be called when there is something to read.

        Returns:
            None if the other end has closed the connection or sends something else than messages.
        """
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
    """Both ends of a connection within a process."""
    one, other = socket.socketpair()
    return Link(one, rank), Link(other, rank)
