"""TCP connections between rank 0 and every rank, beside the collectives: they close when a process ends, however it
ends, and stay open while it is stopped."""

import json
import os
import secrets
import socket
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

SILENCE_S = 30
"""Seconds after which a machine that does not answer at all counts as gone."""
HANDSHAKE_S = 30


@dataclass(frozen=True)
class Meeting:
    """Where rank 0 listens, and the word by which it knows the ranks of its own job."""

    host: str
    port: int
    word: str


def listen(world_size: int) -> tuple[socket.socket, Meeting]:
    """Rank 0's listening socket, on a free port."""
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    server = socket.create_server(("", 0), family=family, backlog=world_size, dualstack_ipv6=both)
    return server, Meeting(_own_host(), server.getsockname()[1], secrets.token_hex(16))


def connect(meeting: Meeting, rank: int) -> Connection:
    """This rank's connection to rank 0.

    Raises:
        OSError: rank 0 cannot be reached at that address.
    """
    try:
        peer = socket.create_connection((meeting.host, meeting.port), timeout=HANDSHAKE_S)
    except OSError as error:
        raise OSError(f"rank {rank} cannot reach rank 0 at {meeting.host}:{meeting.port}: {error}") from None
    connection = _connection(peer)
    send(connection, [meeting.word, rank])
    return connection


def accept(server: socket.socket, meeting: Meeting, world_size: int) -> dict[int, Connection]:
    """The connections of all ranks, by rank; each must have connected already. Others are turned away."""
    connections: dict[int, Connection] = {}
    server.settimeout(HANDSHAKE_S)
    with server:
        while len(connections) < world_size:
            connection = _connection(server.accept()[0])
            match receive(connection) if connection.poll(HANDSHAKE_S) else None:
                case [meeting.word, int(rank)]:
                    connections[rank] = connection
                case _:
                    connection.close()
    return connections


def send(connection: Connection, message: Any) -> None:
    """Sends a message of plain data; to one that has gone it is not sent."""
    try:
        connection.send_bytes(json.dumps(message).encode())
    except OSError:
        return


def receive(connection: Connection) -> Any:
    """The next message; None if the other end has gone."""
    try:
        return json.loads(connection.recv_bytes())
    except (EOFError, OSError, ValueError):
        return None


def _connection(peer: socket.socket) -> Connection:
    peer.settimeout(None)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE_S // 2)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, SILENCE_S // 6)
    # Unanswered data would be sent again for a quarter of an hour.
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * SILENCE_S)
    return Connection(peer.detach())


def _own_host() -> str:
    """This host as the other ranks reach it: its address on the way to the job's store, which they all have reached. A
    loopback address says that the store is here, so that its name will do; torchrun may keep it elsewhere."""
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(address)
        own: str = probe.getsockname()[0]
    return host if own.startswith("127.") or own == "::1" else own
