"""CPUs of a rank's own."""

import os
import threading

import pytest

from dlrm_mtl.distributed.affinity import own_cpus
from dlrm_mtl.distributed.processes import Ranks
from tests.ranks import RankPool

CPUS = os.cpu_count() or 1

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < max(2, CPUS),
    reason="needs two CPUs, and to be bound to none of them",
)


def cpus_of_threads(ranks: Ranks) -> list[list[int]]:
    """What each of this process's threads may run on, and a new one."""
    found: list[set[int]] = [os.sched_getaffinity(int(thread)) for thread in os.listdir("/proc/self/task")]
    thread = threading.Thread(target=lambda: found.append(os.sched_getaffinity(0)))
    thread.start()
    thread.join()
    return [sorted(cpus) for cpus in found]


def test_ranks_share_the_cpus(rank_pool: RankPool) -> None:
    first, second = (threads for threads in rank_pool.run(2, cpus_of_threads))
    assert len(first) > 1
    assert all(cpus == first[0] for cpus in first)
    assert all(cpus == second[0] for cpus in second)
    assert sorted(first[0] + second[0]) == list(range(CPUS))


def test_each_rank_has_as_many_as_can_be() -> None:
    before = os.sched_getaffinity(0)
    found = []
    for rank in range(CPUS):
        with own_cpus(rank, CPUS):
            found.append(os.sched_getaffinity(0))
        assert os.sched_getaffinity(0) == before
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
