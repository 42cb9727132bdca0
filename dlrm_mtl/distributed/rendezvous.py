"""The rendezvous of a job's ranks at its store, with a message and a time limit. torch waits silently, and without
limit if another program owns the port and does not answer."""

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch.distributed as dist
from torch.distributed.distributed_c10d import Store

from dlrm_mtl.distributed.failure import Failure, Kind, announce
from dlrm_mtl.ending import FAILED, end_process

NOTICE_S = 10
"""Seconds after which a rank says what it waits for."""

LOOPBACK = "lo"


@contextmanager
def bounded_rendezvous(timeout_s: int) -> Iterator[None]:
    """Limits the time of the block in which the ranks connect to the store. The first rank of each node says after some
    seconds what it waits for; after ``timeout_s`` the process ends with exit code 1, as a second try may succeed."""
    if os.environ["WORLD_SIZE"] == "1":
        yield
        return
    connected = threading.Event()
    guard = threading.Thread(target=_guard, args=(connected, timeout_s), name="rendezvous", daemon=True)
    guard.start()
    try:
        yield
    finally:
        connected.set()
        guard.join()


def store_endpoint() -> str:
    """HOST:PORT of the job's store."""
    return "{MASTER_ADDR}:{MASTER_PORT}".format_map(os.environ)


def store_of_one() -> Store:
    """The store of a job of one rank, inside its process. gloo always listens, so it is bound to the loopback
    interface."""
    if LOOPBACK in (name for _, name in socket.if_nameindex()):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK)
    return dist.HashStore()  # type: ignore[attr-defined, no-any-return]


def _guard(connected: threading.Event, timeout_s: int) -> None:
    rank, world_size = int(os.environ["RANK"]), os.environ["WORLD_SIZE"]
    is_first_of_node = os.environ["LOCAL_RANK"] == "0"
    notice_s = min(NOTICE_S, timeout_s)
    if connected.wait(notice_s):
        return
    if is_first_of_node:
        what = f"rank {rank} waits for all {world_size} ranks to meet at {store_endpoint()}, for {timeout_s} s at most"
        print(f"{Path(sys.argv[0]).stem}: {what}", file=sys.stderr, flush=True)
    if connected.wait(timeout_s - notice_s):
        return
    if is_first_of_node:
        text = f"the {world_size} ranks did not meet at {store_endpoint()} within {timeout_s} s"
        announce(Failure(Kind.ERROR, rank, FAILED, text))
    end_process(FAILED)
