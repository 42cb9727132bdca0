"""The meeting of a job's ranks at its store, which torch waits for without a word, and for ever where the port belongs
to a program that does not answer."""

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
from dlrm_mtl.ending import REFUSED, end_process

NOTICE_S = 10
"""Seconds after which a rank says what it waits for."""

LOOPBACK = "lo"


@contextmanager
def bounded_meeting(timeout_s: int) -> Iterator[None]:
    """Within, ranks meet: the first rank of each node says after some seconds what it waits for, and the process ends,
    with exit code 2, if it takes longer than ``timeout_s``."""
    if os.environ["WORLD_SIZE"] == "1":
        yield
        return
    met = threading.Event()
    guard = threading.Thread(target=_guard, args=(met, timeout_s), name="meeting", daemon=True)
    guard.start()
    try:
        yield
    finally:
        met.set()
        guard.join()


def place() -> str:
    """Where the ranks meet."""
    return "{MASTER_ADDR}:{MASTER_PORT}".format_map(os.environ)


def store_of_one() -> Store:
    """The store of a job of one rank, which nobody else needs to reach. Its process group is reached by this machine at
    most: gloo always listens."""
    if LOOPBACK in (name for _, name in socket.if_nameindex()):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK)
    return dist.HashStore()  # type: ignore[attr-defined, no-any-return]


def _guard(met: threading.Event, timeout_s: int) -> None:
    rank, world_size = int(os.environ["RANK"]), os.environ["WORLD_SIZE"]
    speaks = os.environ["LOCAL_RANK"] == "0"
    notice_s = min(NOTICE_S, timeout_s)
    if met.wait(notice_s):
        return
    if speaks:
        what = f"rank {rank} waits for all {world_size} ranks to meet at {place()}, for {timeout_s} s at most"
        print(f"{Path(sys.argv[0]).stem}: {what}", file=sys.stderr, flush=True)
    if met.wait(timeout_s - notice_s):
        return
    if speaks:
        text = f"the {world_size} ranks did not meet at {place()} within {timeout_s} s"
        announce(Failure(Kind.ERROR, rank, REFUSED, text))
    end_process(REFUSED)
