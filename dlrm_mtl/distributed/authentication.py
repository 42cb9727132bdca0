"""How the ranks of a job, and nobody else, connect to rank 0.

Rank 0 draws a word and gives it to the ranks through their process group. A caller shows that it knows it, without
saying it: rank 0 greets with a nonce, the caller answers with its rank, a nonce of its own and the HMAC of all three,
and rank 0 shows in the same way that it is rank 0. What a caller must send has a fixed length, and nothing else is read
before it has proved who it is. What was recorded of another connection proves nothing.
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

MEET_S = 30
"""Seconds in which all ranks connect."""
SILENCE_S = 30
"""Seconds after which a machine that does not answer at all counts as gone."""
MAX_CALLERS = 256
"""Connections at a time that have not proved who they are; the oldest is closed for a new one, and calls again if it is
a rank."""
CALLS_AT_ONCE = 64
CALL_S = 5.0
PAUSE_S = 0.05

_NONCE_BYTES = 16
_ANSWER = struct.Struct(f"!I{_NONCE_BYTES}s32s")
_PROOF_BYTES = 32


@dataclass(frozen=True)
class Meeting:
    """Where rank 0 listens, and the word by which the ranks of its job know each other."""

    host: str
    port: int
    word: bytes = field(repr=False)


def store_address() -> str:
    """The address by which this rank reaches the job's store."""
    return str(_store()[4][0])


def host_of_first(store_addresses: Sequence[str]) -> str:
    """The address by which the other ranks reach this host, rank 0's: its own on the way to the job's store. A loopback
    address says that the store is here; then it is the one by which another host reaches the store, if there is one.

    Args:
        store_addresses: what :func:`store_address` gave on every rank.
    """
    family, kind, protocol, _, address = _store()
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(address)
        own = str(probe.getsockname()[0])
    candidates = [own, *store_addresses]
    return next((candidate for candidate in candidates if not _is_loopback(candidate)), own)


def listen(host: str) -> tuple[socket.socket, Meeting]:
    """Rank 0's listening socket, on a free port of an address of this host, and of no other address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        server = socket.create_server((host, 0), family=family, backlog=socket.SOMAXCONN)
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
        # The others reach this host by an address that it does not know of, as behind a gateway.
        server = socket.create_server(("", 0), family=family, backlog=socket.SOMAXCONN)
    return server, Meeting(host, server.getsockname()[1], secrets.token_bytes(32))


def admit(server: socket.socket, word: bytes, ranks: Set[int], deadline: float) -> dict[int, Link]:
    """The connections of the ranks that come before the deadline, by rank; everyone else is turned away. Then nobody
    listens any more.

    Args:
        deadline: on the monotonic clock.
    """
    admitted: dict[int, Link] = {}
    callers: dict[int, _Caller] = {}
    server.setblocking(False)
    with server, selectors.DefaultSelector() as selector:
        selector.register(server, selectors.EVENT_READ)
        while len(admitted) < len(ranks) and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                if key.fileobj is server:
                    _take_calls(server, selector, callers)
                    continue
                caller = callers.get(key.fd)
                if caller is None or not caller.hear():  # closed meanwhile, or not done
                    continue
                del callers[key.fd]
                selector.unregister(caller.peer)
                rank = caller.prove(word)
                if rank is not None and rank in ranks - admitted.keys():
                    admitted[rank] = caller.welcome(word)
                else:
                    caller.peer.close()
        for caller in callers.values():
            caller.peer.close()
    return admitted


def connect(meeting: Meeting, rank: int, deadline: float) -> Link:
    """This rank's connection to rank 0.

    Args:
        deadline: on the monotonic clock.

    Raises:
        OSError: rank 0 cannot be reached at that address, or did not let this rank in before the deadline.
    """
    place = f"rank {rank} cannot reach rank 0 at {meeting.host}:{meeting.port}"
    while True:
        try:
            return _call(meeting, rank, min(deadline, time.monotonic() + CALL_S))
        except OSError as error:
            if isinstance(error, (ConnectionRefusedError, PermissionError)) or time.monotonic() > deadline - PAUSE_S:
                raise OSError(f"{place}: {error}") from None
        time.sleep(PAUSE_S)


class _Caller:
    """A connection that has not proved yet which rank it is."""

    def __init__(self, peer: socket.socket) -> None:
        peer.setblocking(False)
        self.peer = peer
        self._nonce = secrets.token_bytes(_NONCE_BYTES)
        self._answer = b""
        self._gone = False
        self._send(self._nonce)

    def hear(self) -> bool:
        """Reads on; True after all that is to be read."""
        try:
            part = self.peer.recv(_ANSWER.size - len(self._answer))
        except BlockingIOError:
            return False
        except OSError:
            part = b""
        self._answer += part
        return not part or len(self._answer) == _ANSWER.size

    def prove(self, word: bytes) -> int | None:
        """The rank that the caller has shown itself to be, None if it is a stranger."""
        if len(self._answer) < _ANSWER.size:
            return None
        rank, nonce, proof = _ANSWER.unpack(self._answer)
        genuine = hmac.compare_digest(proof, _proof(word, b"rank", self._nonce, nonce, rank))
        return int(rank) if genuine else None

    def welcome(self, word: bytes) -> Link:
        rank, nonce, _ = _ANSWER.unpack(self._answer)
        self._send(_proof(word, b"hub", self._nonce, nonce, rank))
        return _link(self.peer, rank)

    def _send(self, part: bytes) -> None:
        try:
            self.peer.send(part)  # fits into any buffer
        except OSError:  # it has gone, which the next read tells
            return


def _take_calls(server: socket.socket, selector: selectors.BaseSelector, callers: dict[int, _Caller]) -> None:
    for _ in range(CALLS_AT_ONCE):
        try:
            peer, _ = server.accept()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                return  # the caller has gone again
            if not callers:
                raise
            peer = None
        if callers and (peer is None or len(callers) >= MAX_CALLERS):
            oldest = callers.pop(next(iter(callers)))
            selector.unregister(oldest.peer)
            oldest.peer.close()
        if peer is not None:
            selector.register(peer, selectors.EVENT_READ)
            callers[peer.fileno()] = _Caller(peer)


def _call(meeting: Meeting, rank: int, deadline: float) -> Link:
    with_timeout = max(PAUSE_S, deadline - time.monotonic())
    peer = socket.create_connection((meeting.host, meeting.port), timeout=with_timeout)
    try:
        theirs, ours = _read(peer, _NONCE_BYTES, deadline), secrets.token_bytes(_NONCE_BYTES)
        peer.sendall(_ANSWER.pack(rank, ours, _proof(meeting.word, b"rank", theirs, ours, rank)))
        expected = _proof(meeting.word, b"hub", theirs, ours, rank)
        if not hmac.compare_digest(_read(peer, _PROOF_BYTES, deadline), expected):
            raise PermissionError("another program answers there")
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
            raise ConnectionResetError("turned away")
        read += part
    return read


def _proof(word: bytes, role: bytes, nonce_of_hub: bytes, nonce_of_caller: bytes, rank: int) -> bytes:
    return hmac.digest(word, role + nonce_of_hub + nonce_of_caller + struct.pack("!I", rank), "sha256")


def _link(peer: socket.socket, rank: int) -> Link:
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE_S // 2)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, SILENCE_S // 6)
    # Unanswered data would be sent again for a quarter of an hour.
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * SILENCE_S)
    return Link(peer, rank)


def _store() -> tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]:
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
