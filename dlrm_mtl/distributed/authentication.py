"""Connections of the ranks of a job to rank 0; other programs are refused.

Rank 0 draws a random secret and broadcasts it through the process group. On each connection rank 0 sends a nonce, the
rank answers with its number, a nonce of its own and the HMAC of all three, and rank 0 proves in the same way that it is
rank 0: the secret itself is never sent, and a replayed answer is refused. An answer has a fixed length, and no more is
read before it is verified.
"""

import errno
import hmac
import ipaddress
import os
import secrets
import selectors
import socket
import struct
import time
from collections.abc import Sequence, Set
from dataclasses import dataclass, field

from dlrm_mtl.distributed.links import Link

CONNECT_S = 30
"""Seconds that all ranks have to connect."""
UNANSWERED_S = 30
"""Seconds without an answer after which a machine is taken to be lost."""
MAX_CANDIDATES = 256
"""Unauthenticated connections at a time. A new one closes the oldest; a rank whose connection is closed connects
again."""
ACCEPTS_AT_ONCE = 64
ATTEMPT_S = 5.0
PAUSE_S = 0.05

_NONCE_BYTES = 16
_ANSWER = struct.Struct(f"!I{_NONCE_BYTES}s32s")
_PROOF_BYTES = 32


@dataclass(frozen=True)
class Endpoint:
    """Where rank 0 listens, and the secret of its job."""

    host: str
    port: int
    secret: bytes = field(repr=False)


def store_address() -> str:
    """The address by which this rank reaches the job's store."""
    return str(_store()[4][0])


def host_of_first(store_addresses: Sequence[str]) -> str:
    """The address by which the other ranks reach this host, rank 0's: the local address of its route to the job's
    store. If that is a loopback address, the store is on this host, and the address by which another host reaches the
    store is taken.

    Args:
        store_addresses: what :func:`store_address` gave on every rank.
    """
    family, kind, protocol, _, address = _store()
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(address)
        own = str(probe.getsockname()[0])
    candidates = [own, *store_addresses]
    return next((candidate for candidate in candidates if not _is_loopback(candidate)), own)


def listen(host: str) -> tuple[socket.socket, Endpoint]:
    """Rank 0's listening socket, on a free port of the given address only."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        server = socket.create_server((host, 0), family=family, backlog=socket.SOMAXCONN)
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
        # No interface of this host has the address, as behind a gateway.
        server = socket.create_server(("", 0), family=family, backlog=socket.SOMAXCONN)
    return server, Endpoint(host, server.getsockname()[1], secrets.token_bytes(32))


def accept_ranks(server: socket.socket, secret: bytes, ranks: Set[int], deadline: float) -> dict[int, Link]:
    """Accepts the connections of ranks until all are there or the deadline has passed, then closes the server.

    Args:
        deadline: on the monotonic clock.

    Returns:
        the connections by rank; ranks that did not connect in time are missing.
    """
    links: dict[int, Link] = {}
    candidates: dict[int, _Candidate] = {}
    server.setblocking(False)
    with server, selectors.DefaultSelector() as selector:
        selector.register(server, selectors.EVENT_READ)
        while len(links) < len(ranks) and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                if key.fileobj is server:
                    _accept_connections(server, selector, candidates)
                    continue
                candidate = candidates.get(key.fd)
                if candidate is None or not candidate.read():  # closed since, or more to read
                    continue
                del candidates[key.fd]
                selector.unregister(candidate.peer)
                rank = candidate.authenticate(secret)
                if rank is not None and rank in ranks - links.keys():
                    links[rank] = candidate.accept(secret)
                else:
                    candidate.peer.close()
        for candidate in candidates.values():
            candidate.peer.close()
    return links


def connect(endpoint: Endpoint, rank: int, deadline: float) -> Link:
    """This rank's connection to rank 0.

    Args:
        deadline: on the monotonic clock.

    Raises:
        ConnectionError: rank 0 cannot be reached at that address, or did not accept this rank before the deadline.
    """
    place = f"rank {rank} cannot reach rank 0 at {endpoint.host}:{endpoint.port}"
    while True:
        try:
            return _attempt(endpoint, rank, min(deadline, time.monotonic() + ATTEMPT_S))
        except OSError as error:
            if isinstance(error, (ConnectionRefusedError, PermissionError)) or time.monotonic() > deadline - PAUSE_S:
                raise ConnectionError(f"{place}: {error}") from None
        time.sleep(PAUSE_S)


class _Candidate:
    """A connection that is not authenticated yet."""

    def __init__(self, peer: socket.socket) -> None:
        peer.setblocking(False)
        self.peer = peer
        self._nonce = secrets.token_bytes(_NONCE_BYTES)
        self._answer = b""
        self._send(self._nonce)

    def read(self) -> bool:
        """Reads what has arrived; True when the answer is complete or the connection closed."""
        try:
            part = self.peer.recv(_ANSWER.size - len(self._answer))
        except BlockingIOError:
            return False
        except OSError:
            part = b""
        self._answer += part
        return not part or len(self._answer) == _ANSWER.size

    def authenticate(self, secret: bytes) -> int | None:
        """The rank that the answer proves, None if it proves none."""
        if len(self._answer) < _ANSWER.size:
            return None
        rank, nonce, proof = _ANSWER.unpack(self._answer)
        genuine = hmac.compare_digest(proof, _proof(secret, b"rank", self._nonce, nonce, rank))
        return int(rank) if genuine else None

    def accept(self, secret: bytes) -> Link:
        rank, nonce, _ = _ANSWER.unpack(self._answer)
        self._send(_proof(secret, b"rank 0", self._nonce, nonce, rank))
        return _link(self.peer, rank)

    def _send(self, part: bytes) -> None:
        try:
            self.peer.send(part)  # fits into any buffer
        except OSError:  # closed, as the next read shows
            return


def _accept_connections(
    server: socket.socket, selector: selectors.BaseSelector, candidates: dict[int, _Candidate]
) -> None:
    for _ in range(ACCEPTS_AT_ONCE):
        try:
            peer, _ = server.accept()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                return  # the connection was closed again
            if not candidates:
                raise
            peer = None
        if candidates and (peer is None or len(candidates) >= MAX_CANDIDATES):
            oldest = candidates.pop(next(iter(candidates)))
            selector.unregister(oldest.peer)
            oldest.peer.close()
        if peer is not None:
            selector.register(peer, selectors.EVENT_READ)
            candidates[peer.fileno()] = _Candidate(peer)


def _attempt(endpoint: Endpoint, rank: int, deadline: float) -> Link:
    with_timeout = max(PAUSE_S, deadline - time.monotonic())
    peer = socket.create_connection((endpoint.host, endpoint.port), timeout=with_timeout)
    try:
        theirs, ours = _read(peer, _NONCE_BYTES, deadline), secrets.token_bytes(_NONCE_BYTES)
        peer.sendall(_ANSWER.pack(rank, ours, _proof(endpoint.secret, b"rank", theirs, ours, rank)))
        expected = _proof(endpoint.secret, b"rank 0", theirs, ours, rank)
        if not hmac.compare_digest(_read(peer, _PROOF_BYTES, deadline), expected):
            raise PermissionError("another program listens there")
    except BaseException:
        peer.close()
        raise
    return _link(peer, 0)


def _read(peer: socket.socket, size: int, deadline: float) -> bytes:
    read = b""
    while len(read) < size:
        peer.settimeout(max(PAUSE_S, deadline - time.monotonic()))
        part = peer.recv(size - len(read))
        if not part:
            raise ConnectionResetError("connection refused by rank 0")
        read += part
    return read


def _proof(secret: bytes, role: bytes, nonce_of_rank_0: bytes, nonce_of_rank: bytes, rank: int) -> bytes:
    return hmac.digest(secret, role + nonce_of_rank_0 + nonce_of_rank + struct.pack("!I", rank), "sha256")


def _link(peer: socket.socket, rank: int) -> Link:
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, UNANSWERED_S // 2)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, UNANSWERED_S // 6)
    # Unanswered data would be sent again for a quarter of an hour.
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * UNANSWERED_S)
    return Link(peer, rank)


def _store() -> tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]:
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
