"""Binds each rank to CPUs of its own, so that ranks that wait for each other do not share one."""

import os
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager


@contextmanager
def own_cpus(local_rank: int, local_world_size: int) -> Iterator[None]:
    """Binds this process to its share of the machine's CPUs within the block, if several ranks train on this machine.
    Does nothing if the process is bound already, if there are fewer CPUs than ranks, or if the system cannot bind
    processes.

    Its threads get the policy SCHED_BATCH, under which those of the collectives do not interrupt the training thread.
    New threads and processes inherit both.

    Args:
        local_rank: among the ranks of this machine.
    """
    share = _share(local_rank, local_world_size)
    if not share:
        yield
        return
    before = os.sched_getaffinity(0), os.sched_getscheduler(0)
    _for_each_thread(lambda thread: _schedule(thread, share, os.SCHED_BATCH))
    try:
        yield
    finally:
        _for_each_thread(lambda thread: _schedule(thread, *before))


@contextmanager
def all_cpus() -> Iterator[None]:
    """Undoes :func:`own_cpus` within the block."""
    if not hasattr(os, "SCHED_BATCH") or os.sched_getscheduler(0) != os.SCHED_BATCH:
        yield
        return
    own = os.sched_getaffinity(0)
    _for_each_thread(lambda thread: _schedule(thread, set(range(os.cpu_count() or 1)), os.SCHED_OTHER))
    try:
        yield
    finally:
        _for_each_thread(lambda thread: _schedule(thread, own, os.SCHED_BATCH))


def _share(local_rank: int, local_world_size: int) -> Set[int]:
    if local_world_size == 1 or not hasattr(os, "sched_getaffinity"):
        return frozenset()
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < max(os.cpu_count() or 0, local_world_size):
        return frozenset()
    first, last = (len(cpus) * rank // local_world_size for rank in (local_rank, local_rank + 1))
    return frozenset(cpus[first:last])


def _schedule(thread: int, cpus: Set[int], policy: int) -> None:
    os.sched_setaffinity(thread, cpus)
    os.sched_setscheduler(thread, policy, os.sched_param(0))


def _for_each_thread(action: Callable[[int], None]) -> None:
    for thread in os.listdir("/proc/self/task"):
        try:
            action(int(thread))
        except ProcessLookupError:  # it has ended
            continue
