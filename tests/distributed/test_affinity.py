"""Each rank has CPUs of its own."""

import os
import threading

import pytest

from dlrm_mtl.distributed.affinity import all_cpus, own_cpus
from dlrm_mtl.distributed.processes import Ranks
from tests.ranks import RankPool

CPUS = os.cpu_count() or 1

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < max(2, CPUS),
    reason="needs two CPUs, and to be bound to none of them",
)


def threads(ranks: Ranks) -> list[tuple[list[int], int]]:
    """CPUs and scheduling policy of each of this process's threads, and of a new one."""
    numbers = [int(thread) for thread in os.listdir("/proc/self/task")]
    found = [(sorted(os.sched_getaffinity(number)), os.sched_getscheduler(number)) for number in numbers]
    new = threading.Thread(target=lambda: found.append((sorted(os.sched_getaffinity(0)), os.sched_getscheduler(0))))
    new.start()
    new.join()
    return found


def test_ranks_share_the_cpus(rank_pool: RankPool) -> None:
    first, second = rank_pool.run(2, threads)
    assert len(first) > 1
    for found in (first, second):
        assert all(thread == (found[0][0], os.SCHED_BATCH) for thread in found)
    assert sorted(first[0][0] + second[0][0]) == list(range(CPUS))


def test_each_rank_has_as_many_as_can_be() -> None:
    before, policy = os.sched_getaffinity(0), os.sched_getscheduler(0)
    found = []
    for rank in range(CPUS):
        with own_cpus(rank, CPUS):
            found.append(os.sched_getaffinity(0))
            assert os.sched_getscheduler(0) == os.SCHED_BATCH
        assert (os.sched_getaffinity(0), os.sched_getscheduler(0)) == (before, policy)
    assert found == [{cpu} for cpu in sorted(before)]


@pytest.mark.parametrize("ranks", [1, CPUS + 1])
def test_one_rank_and_more_than_cpus_are_not_bound(ranks: int) -> None:
    before = os.sched_getaffinity(0)
    with own_cpus(0, ranks):
        assert os.sched_getaffinity(0) == before


def test_what_is_bound_stays_so() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        with own_cpus(1, 2):
            assert os.sched_getaffinity(0) == {min(before)}
        assert os.sched_getaffinity(0) == {min(before)}
    finally:
        os.sched_setaffinity(0, before)


def test_it_can_be_undone_for_a_while() -> None:
    before, policy = os.sched_getaffinity(0), os.sched_getscheduler(0)
    with own_cpus(0, 2):
        own = os.sched_getaffinity(0)
        with all_cpus():
            assert (os.sched_getaffinity(0), os.sched_getscheduler(0)) == (before, policy)
        assert (os.sched_getaffinity(0), os.sched_getscheduler(0)) == (own, os.SCHED_BATCH)
    with all_cpus():
        assert (os.sched_getaffinity(0), os.sched_getscheduler(0)) == (before, policy)
