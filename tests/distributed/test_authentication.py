"""Strangers at rank 0's port: whatever they send, and as many as they are, the ranks get in and strangers do not."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest

from dlrm_mtl.distributed import processes
from dlrm_mtl.distributed.authentication import Endpoint, accept_ranks, connect, host_of_first, listen
from dlrm_mtl.distributed.failure import Position
from dlrm_mtl.distributed.links import Link
from dlrm_mtl.distributed.processes import Ranks
from tests.messages import naming
from tests.ranks import RankPool

BOUND_S = 20.0
"""Less than the time after which ranks that do not meet give up."""


@contextmanager
def admitting(ranks: Sequence[int]) -> Iterator[tuple[Endpoint, Future[dict[int, Link]]]]:
    server, endpoint = listen("127.0.0.1")
    assert server.getsockname()[0] == "127.0.0.1"
    with ThreadPoolExecutor(1) as thread:
        yield (
            endpoint,
            thread.submit(accept_ranks, server, endpoint.secret, frozenset(ranks), time.monotonic() + BOUND_S),
        )


def call(endpoint: Endpoint) -> socket.socket:
    return socket.create_connection((endpoint.host, endpoint.port), timeout=BOUND_S)


def check_that_ranks_meet(ranks: Sequence[int], endpoint: Endpoint, admitted: Future[dict[int, Link]]) -> None:
    """Each rank gets in, its messages come as its own, and then nobody listens."""
    start = time.monotonic()
    theirs = {rank: connect(endpoint, rank, start + BOUND_S) for rank in ranks}
    links = admitted.result(BOUND_S)
    assert time.monotonic() - start < BOUND_S
    assert set(ranks) <= links.keys()
    for rank, link in theirs.items():
        link.send(Position(rank, "training", 7))
        assert links[rank].rank == rank
        assert links[rank].receive() == [Position(rank, "training", 7)]
        link.close()
        links[rank].close()
    with pytest.raises(ConnectionRefusedError):
        call(endpoint)


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([], id="nobody"),
        pytest.param([b""] * 300, id="silence"),
        pytest.param([b"\0"] * 300, id="half messages"),
        pytest.param([struct.pack("!iQ", -1, 2**62), struct.pack("!iQ", -1, 2**63 + 5)], id="lengths without bound"),
        pytest.param([b"[" * 100_000] * 3, id="depth"),
        pytest.param([b"GET / HTTP/1.1\r\nHost: rank-0\r\n\r\n", b"\x16\x03\x01" * 40], id="other protocols"),
        pytest.param([struct.pack("!I", rank) + b"\0" * 48 for rank in (0, 1, 2, 3, 2**32 - 1)], id="guesses"),
    ],
)
def test_whatever_strangers_say_no_rank_is_kept_out(parts: Sequence[bytes]) -> None:
    strangers = []
    with admitting([1, 2, 3]) as (endpoint, admitted):
        for part in parts:
            strangers.append(call(endpoint))
            with suppress(OSError):  # turned away while it speaks
                strangers[-1].sendall(part)
        check_that_ranks_meet([1, 2, 3], endpoint, admitted)
    for stranger in strangers:
        stranger.close()


def test_a_flood_of_connections_keeps_no_rank_out() -> None:
    over = threading.Event()

    def flood(endpoint: Endpoint) -> None:
        while not over.is_set():
            with suppress(OSError), call(endpoint) as stranger:
                stranger.send(b"x")

    with admitting([1, 2, 3]) as (endpoint, admitted), ThreadPoolExecutor(3) as threads:
        for _ in range(3):
            threads.submit(flood, endpoint)
        try:
            time.sleep(0.3)
            check_that_ranks_meet([1, 2, 3], endpoint, admitted)
        finally:
            over.set()


def besieged(ranks: Ranks) -> list[int]:
    """The ranks to which this one gets connected while rank 0's port is flooded with what strangers may say."""
    over = threading.Event()

    def flood(endpoint: Endpoint) -> None:
        while not over.is_set():
            for part in (b"", b"\0", struct.pack("!iQ", -1, 2**62), b"[" * 10_000, b"\0" * 52):
                with suppress(OSError), call(endpoint) as stranger:
                    stranger.sendall(part)

    def listen_besieged(host: str) -> tuple[socket.socket, Endpoint]:
        server, endpoint = listen(host)
        silent.extend(call(endpoint) for _ in range(100))
        for _ in range(2):
            threads.submit(flood, endpoint)
        return server, endpoint

    silent: list[socket.socket] = []
    with ThreadPoolExecutor(2) as threads, pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "listen", listen_besieged)
        links = processes._connect_ranks(ranks)
        over.set()
    for stranger in silent:
        stranger.close()
    for link in links.values():
        link.close()
    return sorted(links)


@pytest.mark.parametrize("world_size", [2, 4])
def test_the_ranks_of_a_job_meet_under_siege(rank_pool: RankPool, world_size: int) -> None:
    first, *others = rank_pool.run(world_size, besieged)
    assert first == list(range(1, world_size))
    assert others == [[0]] * (world_size - 1)


def turned_away(endpoint: Endpoint, answer: Callable[[bytes], bytes]) -> bool:
    """Whether rank 0 closes the connection of a caller that answers its nonce like this."""
    with call(endpoint) as stranger:
        stranger.sendall(answer(stranger.recv(1000)))
        try:
            return stranger.recv(1000) == b""
        except ConnectionResetError:
            return True


def test_a_replay_and_a_rank_that_is_taken_or_none_are_turned_away() -> None:
    with (
        admitting([1, 2]) as (endpoint, admitted),
        ThreadPoolExecutor(1) as thread,
        socket.create_server(("127.0.0.1", 0)) as server,
        call(endpoint) as inside,
    ):
        between = Endpoint("127.0.0.1", server.getsockname()[1], endpoint.secret)
        connecting = thread.submit(connect, between, 1, time.monotonic() + BOUND_S)
        outside, _ = server.accept()
        outside.sendall(inside.recv(1000))
        recorded = outside.recv(1000)
        inside.sendall(recorded)
        outside.sendall(inside.recv(1000))
        assert turned_away(endpoint, lambda nonce: recorded)
        assert turned_away(endpoint, lambda nonce: struct.pack("!I", 2) + recorded[4:])
        for rank in (0, 1, 3, 2**32 - 1):
            with pytest.raises(OSError, match=naming(f"rank {rank}", "rank 0")):
                connect(endpoint, rank, time.monotonic() + 0.1)
        check_that_ranks_meet([2], endpoint, admitted)
        for end in (connecting.result(), outside, admitted.result()[1]):
            end.close()


def test_another_program_in_the_place_of_rank_0_is_recognised() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as thread:
        endpoint = Endpoint("127.0.0.1", server.getsockname()[1], b"w" * 32)
        connecting = thread.submit(connect, endpoint, 1, time.monotonic() + BOUND_S)
        peer, _ = server.accept()
        with peer:
            peer.sendall(b"n" * 16)
            peer.recv(1000)
            peer.sendall(b"p" * 32)
            with pytest.raises(OSError, match="another program"):
                connecting.result()


def test_ranks_that_do_not_come_are_waited_for_until_the_deadline() -> None:
    server, endpoint = listen("127.0.0.1")
    with call(endpoint):
        assert accept_ranks(server, endpoint.secret, {1, 2}, time.monotonic() + 0.2) == {}


@pytest.mark.parametrize(
    ("own", "store_addresses", "host"),
    [
        ("10.0.0.5", ["10.0.0.5", "10.0.0.5"], "10.0.0.5"),
        ("10.0.0.5", ["10.0.0.9", "10.0.0.9"], "10.0.0.5"),
        ("127.0.0.1", ["127.0.0.1", "127.0.0.1"], "127.0.0.1"),
        ("127.0.0.1", ["127.0.1.1", "127.0.1.1", "10.0.0.5"], "10.0.0.5"),
        ("::1", ["::1", "fd00::5"], "fd00::5"),
    ],
)
def test_rank_0_listens_where_the_others_call(
    monkeypatch: pytest.MonkeyPatch, own: str, store_addresses: Sequence[str], host: str
) -> None:
    class Probe(socket.socket):
        def connect(self, address: object) -> None:
            assert address == ("127.0.0.1", 29500)

        def getsockname(self) -> tuple[str, int]:
            return own, 1234

    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.setattr(socket, "socket", Probe)
    assert host_of_first(store_addresses) == host


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 100_000,
        b'["position", -1, "training", 5, ""]',
        b'["position", 1, "training", 5.0, ""]',
        b'["position", true, "training", 5, ""]',
        b'["position", 1, "training", 100000000000000000000, ""]',
        b'["failure", 9, 1, ""]',
        b'["failure", 0, 256, ""]',
        b'["failure", 0, 1, ["text"]]',
        b'["end", -1]',
        b'["go"]',
        b'{"left": true}',
        b"\xff",
        b"",
    ],
)
def test_what_is_no_message_ends_a_link(line: bytes) -> None:
    one, other = socket.socketpair()
    with one:
        one.sendall(line + b"\n")
        link = Link(other, 1)
        assert link.receive() is None
        link.close()


def test_a_message_without_an_end_is_not_kept() -> None:
    one, other = socket.socketpair()
    link = Link(other, 1)
    with one:
        for _ in range(1000):
            one.sendall(b"x" * 1000)
            if link.receive() is None:
                break
        else:
            raise AssertionError("a million bytes were taken for a message to come")
    link.close()
