"""Memory that the ranks of one machine share, and which of them have ended.

Nobody listens and nobody is called. Rank 0 makes memory without a name in any file system; the others open it by way of
/proc, which the kernel grants to processes of the same user alone.
"""

import mmap
import os
import secrets
import struct
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist

MAX_RANKS = 8
"""More ranks do not meet: each would look at each other."""

_IDENTITY = struct.Struct("<qqq16s")
"""Process, its start, descriptor of the memory, word that names the memory."""


class Process(NamedTuple):
    """A process of this machine."""

    number: int
    started: int
    """In clock ticks since the machine started; a later process of the same number has another."""

    @classmethod
    def of(cls, number: int) -> "Process | None":
        """None if there is none, or it has ended."""
        with suppress(OSError):
            status = Path(f"/proc/{number}/stat").read_text()
            state, *fields = status.rpartition(")")[2].split()
            if state not in "ZX":
                return cls(number, int(fields[18]))
        return None

    @property
    def has_ended(self) -> bool:
        return Process.of(self.number) != self


class SharedMemory(NamedTuple):
    """Memory that the ranks of a process group share, on one machine."""

    memory: mmap.mmap
    """The same on all ranks, zeros at first."""
    others: Mapping[int, Process]
    """By rank."""
    timeout_s: float
    """The process group's."""


def share_memory(group: dist.ProcessGroup, size: Callable[[], int] | None) -> SharedMemory | None:
    """Has the ranks of a gloo group share memory, if they are few, on one Linux machine, and all of them can; else
    None, on all. Collective.

    Args:
        size: how many bytes; None if this rank cannot.
    """
    rank, world_size = dist.get_rank(group), group.size()
    if sys.platform != "linux" or not 1 < world_size <= MAX_RANKS:
        return None
    backend = group._get_backend(torch.device("cpu"))
    if not (dist.is_gloo_available() and isinstance(backend, dist.ProcessGroupGloo)):
        return None
    memory: mmap.mmap | None = None
    others: dict[int, Process] = {}
    word, descriptor = secrets.token_bytes(16), -1
    try:
        if size is not None and rank == 0:
            with suppress(OSError):
                descriptor, memory = _make_memory(word, size())
        myself = Process.of(os.getpid()) or Process(-1, -1)
        identities = _gather(_IDENTITY.pack(*myself, descriptor, word), group)
        for other, identity in enumerate(identities):
            number, started, _, _ = _IDENTITY.unpack(identity)
            if other != rank and number > 0:
                others[other] = Process(number, started)
        if size is not None and rank != 0:
            number, _, of_first, word = _IDENTITY.unpack(identities[0])
            with suppress(OSError):
                memory = _open_memory(number, of_first, word, size())
        # On another machine, or in a container of its own, there is no such process or no such memory.
        seen = len(others) == world_size - 1 and not any(other.has_ended for other in others.values())
        everywhere = torch.tensor(memory is not None and seen, dtype=torch.int64, device="cpu")
        dist.all_reduce(everywhere, dist.ReduceOp.MIN, group=group)
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    if not everywhere or memory is None:
        return None
    return SharedMemory(memory, others, backend.options._timeout.total_seconds())


def _make_memory(word: bytes, size: int) -> tuple[int, mmap.mmap]:
    descriptor = os.memfd_create(_name(word))
    try:
        os.ftruncate(descriptor, size)
        return descriptor, mmap.mmap(descriptor, size)
    except OSError:
        os.close(descriptor)
        raise


def _open_memory(process: int, descriptor: int, word: bytes, size: int) -> mmap.mmap:
    """Maps the memory of a process.

    Raises:
        OSError: it has none by this word.
    """
    path = f"/proc/{process}/fd/{descriptor}"
    if os.readlink(path) != f"/memfd:{_name(word)} (deleted)":
        raise FileNotFoundError(path)
    opened = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return mmap.mmap(opened, size)
    finally:
        os.close(opened)


def _name(word: bytes) -> str:
    return f"dlrm-mtl-sums-{word.hex()}"


def _gather(part: bytes, group: dist.ProcessGroup) -> list[bytes]:
    parts = list(torch.zeros(group.size(), len(part), dtype=torch.uint8, device="cpu"))
    dist.all_gather(parts, torch.tensor(list(part), dtype=torch.uint8, device="cpu"), group=group)
    return [bytes(gathered.tolist()) for gathered in parts]
