"""Sums of a few numbers over the CPU ranks of one machine, in memory that they share.

gloo runs every collective in its own threads, which interrupt a rank that has one CPU, and a socket takes several
system calls. Here each rank writes its numbers and reads those of the others; see
``kernels/c/shared_sums.c``.
"""

import ctypes
import mmap
import time
from collections.abc import Mapping, Sequence

import torch.distributed as dist

from dlrm_mtl.balancing.exchange.machine_ranks import Process, share_memory
from dlrm_mtl.balancing.exchange.shared_sums import COMPLETE, MISSING, OTHER_COUNT, SharedSums, shared_sums
from dlrm_mtl.balancing.kernels.c_structures import Exchange

MAX_VALUES = 1 << 12
"""The most values of a sum; larger ones use the process group."""

CHECK_US = 100_000
"""How long a rank waits for another before it checks that the other still runs."""


class DirectExchange:
    """Sums in memory that all ranks write their numbers to. All add them in the order of ranks, so the sums are the
    same on all, bit by bit.

    Args:
        memory: shared by all ranks, initially zeros.
        others: processes of the other ranks, by rank.
        timeout_s: how long to wait for a rank that still runs.
    """

    def __init__(
        self,
        library: SharedSums,
        memory: mmap.mmap,
        rank: int,
        others: Mapping[int, Process],
        timeout_s: float,
    ) -> None:
        self._library = library
        self._memory = memory
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self._form = Exchange(address, MAX_VALUES, rank, len(others) + 1)
        self._rank = rank
        self._others = others
        self._timeout_s = timeout_s
        self._started = 0

    def start(self, values: Sequence[float]) -> "DirectSum":
        """Writes this rank's values; does not wait. Every rank must call it, in the same order."""
        self._started += 1
        count = len(values)
        self._library.put(self._form, self._started, (ctypes.c_double * count)(*values), count)
        return DirectSum(self, self._started, count)

    def receive(self, number: int, count: int) -> list[float]:
        """The sum over ranks of the values that each passed to its call of this number.

        Raises:
            RuntimeError: a rank has ended, or did not write its values within the timeout; or the ranks are not at the
                same sum.
        """
        sums, culprit = (ctypes.c_double * count)(), ctypes.c_int()
        outcome = self._wait(number, sums, culprit)
        if outcome != COMPLETE:
            what = "has another count of values in" if outcome == OTHER_COUNT else "is far beyond"
            raise RuntimeError(f"rank {culprit.value} {what} sum {number} of {count}, at which rank {self._rank} is")
        return list(sums)

    def _wait(self, number: int, sums: "ctypes.Array[ctypes.c_double]", culprit: ctypes.c_int) -> int:
        start = time.monotonic()
        ended: set[int] = set()
        while True:
            outcome: int = self._library.add_up(self._form, number, sums, len(sums), CHECK_US, culprit)
            if outcome != MISSING:
                return outcome
            if culprit.value in ended:  # before the last wait: it has written nothing since
                raise RuntimeError(f"rank {culprit.value} has ended, for which rank {self._rank} waited")
            if time.monotonic() - start > self._timeout_s:
                raise RuntimeError(f"rank {self._rank} waited for rank {culprit.value}: timed out")
            ended = {rank for rank, process in self._others.items() if process.has_ended}


class DirectSum:
    """A pending sum."""

    def __init__(self, exchange: DirectExchange, number: int, count: int) -> None:
        self._exchange = exchange
        self._number = number
        self._count = count
        self._sums: Sequence[float] | None = None

    def wait(self) -> Sequence[float]:
        """The sums, once all ranks have written their values. Raises what :meth:`DirectExchange.receive` does."""
        if self._sums is None:
            self._sums = self._exchange.receive(self._number, self._count)
        return self._sums


def connect_ranks(group: dist.ProcessGroup) -> DirectExchange | None:
    """Connects the ranks of a gloo group, if all are on one Linux machine, at most MAX_RANKS, and have the C extension;
    else returns None on all ranks. Collective."""
    library = shared_sums()
    size = None if library is None else lambda: int(library.shared_bytes(group.size(), MAX_VALUES))
    shared = share_memory(group, size)
    if library is None or shared is None:
        return None
    return DirectExchange(library, shared.memory, dist.get_rank(group), shared.others, shared.timeout_s)
