"""Memory that the ranks of one machine share, and which of them have ended.

No port is opened. Rank 0 creates memory that has no name in any file system. The others open it through /proc, which
the kernel allows only processes of the same user.
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
"""The most ranks that share memory, since each reads the values of all others."""

_IDENTITY = struct.Struct("<qqq16s")
"""Process id, its start, descriptor of the memory, random name of the memory."""


class Process(NamedTuple):
    """A process of this machine."""

    number: int
    started: int
    """In clock ticks since the machine started. It tells a later process with the same id apart."""

    @classmethod
    def of(cls, number: int) -> "Process | None":
        """The process with this id; None if it does not exist or has ended."""
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
    """Memory that the ranks of a process group share."""

    memory: mmap.mmap
    """Shared by all ranks, initially zeros."""
    others: Mapping[int, Process]
    """By rank."""
    timeout_s: float
    """The process group's."""


def share_memory(group: dist.ProcessGroup, size: Callable[[], int] | None) -> SharedMemory | None:
    """Creates memory shared by the ranks of a gloo group, if all are on one Linux machine, at most MAX_RANKS, and none
    passes None; else returns None on all ranks. Collective.

    Args:
        size: returns the number of bytes; None if this rank cannot use shared memory.
    """
    rank, world_size = dist.get_rank(group), group.size()
    if sys.platform != "linux" or not 1 < world_size <= MAX_RANKS:
        return None
    backend = group._get_backend(torch.device("cpu"))
    if not (dist.is_gloo_available() and isinstance(backend, dist.ProcessGroupGloo)):
        return None
    memory: mmap.mmap | None = None
    others: dict[int, Process] = {}
    name, descriptor = secrets.token_bytes(16), -1
    try:
        if size is not None and rank == 0:
            with suppress(OSError):
                descriptor, memory = _make_memory(name, size())
        myself = Process.of(os.getpid()) or Process(-1, -1)
        identities = _gather(_IDENTITY.pack(*myself, descriptor, name), group)
        for other, identity in enumerate(identities):
            number, started, _, _ = _IDENTITY.unpack(identity)
            if other != rank and number > 0:
                others[other] = Process(number, started)
        if size is not None and rank != 0:
            number, _, its_descriptor, name = _IDENTITY.unpack(identities[0])
            with suppress(OSError):
                memory = _open_memory(number, its_descriptor, name, size())
        # A rank on another machine, or in its own container, sees no such process or memory.
        all_run = len(others) == world_size - 1 and not any(other.has_ended for other in others.values())
        everywhere = torch.tensor(memory is not None and all_run, dtype=torch.int64, device="cpu")
        dist.all_reduce(everywhere, dist.ReduceOp.MIN, group=group)
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    if not everywhere or memory is None:
        return None
    return SharedMemory(memory, others, backend.options._timeout.total_seconds())


def _make_memory(name: bytes, size: int) -> tuple[int, mmap.mmap]:
    descriptor = os.memfd_create(_file_name(name))
    try:
        os.ftruncate(descriptor, size)
        return descriptor, mmap.mmap(descriptor, size)
    except OSError:
        os.close(descriptor)
        raise


def _open_memory(process: int, descriptor: int, name: bytes, size: int) -> mmap.mmap:
    """Maps the memory of a process.

    Raises:
        OSError: the process has no memory of this name.
    """
    path = f"/proc/{process}/fd/{descriptor}"
    if os.readlink(path) != f"/memfd:{_file_name(name)} (deleted)":
        raise FileNotFoundError(path)
    opened = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return mmap.mmap(opened, size)
    finally:
        os.close(opened)


def _file_name(name: bytes) -> str:
    return f"dlrm-mtl-sums-{name.hex()}"


def _gather(part: bytes, group: dist.ProcessGroup) -> list[bytes]:
    parts = list(torch.zeros(group.size(), len(part), dtype=torch.uint8, device="cpu"))
    dist.all_gather(parts, torch.tensor(list(part), dtype=torch.uint8, device="cpu"), group=group)
    return [bytes(gathered.tolist()) for gathered in parts]
