"""Sums over the CPU ranks of one machine, in memory that real processes share."""

import copy
import os
import re
import signal
import socket
import time
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from dlrm_mtl.balancing import BalancingLayer, create_balancer
from dlrm_mtl.balancing.exchange import machine_ranks
from dlrm_mtl.balancing.exchange.direct_exchange import MAX_VALUES, connect_ranks
from dlrm_mtl.balancing.exchange.reduction import Reducer
from dlrm_mtl.distributed.processes import Ranks
from tests.balancing.backward import backward_with, record_of
from tests.balancing.kernel_settings import fresh_kernels
from tests.preloaded import preloading_context
from tests.ranks import RankPool
from tests.waiting import free_port

SIZES = (1, 9, 64, MAX_VALUES)


def values_of(rank: int, size: int) -> torch.Tensor:
    return torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(100 * rank + size))


def exchanged(ranks: Ranks) -> list[Any]:
    """The sum of each size; waiting again changes nothing."""
    exchange = connect_ranks(ranks.group)
    assert exchange is not None
    sums = []
    for size in SIZES:
        under_way = exchange.start(values_of(ranks.rank, size).tolist())
        once = under_way.wait()
        assert under_way.wait() == once
        sums.append(np.array(once))
    return sums


@pytest.mark.parametrize("world_size", [2, 3])
def test_sums_are_the_same_on_all_ranks(rank_pool: RankPool, world_size: int) -> None:
    results = rank_pool.run(world_size, exchanged)
    for index, size in enumerate(SIZES):
        expected = sum(values_of(rank, size).numpy() for rank in range(world_size))
        for sums in results:
            assert (sums[index] == results[0][index]).all()
            assert sums[index] == pytest.approx(expected, rel=1e-14)


def not_finite(ranks: Ranks) -> list[float]:
    exchange = connect_ranks(ranks.group)
    assert exchange is not None
    return list(exchange.start([1.0, float("nan") if ranks.rank else 2.0, float("inf")]).wait())


def test_numbers_that_are_not_finite_reach_all_ranks(rank_pool: RankPool) -> None:
    for first, second, third in rank_pool.run(2, not_finite):
        assert first == 2.0
        assert second != second
        assert third == float("inf")


def overlapping(ranks: Ranks) -> list[float]:
    """A sum after others that nobody waits for, as of a layer that a checkpoint was loaded into. The second rank begins
    when the first has begun all of them."""
    exchange = connect_ranks(ranks.group)
    assert exchange is not None
    if ranks.rank:
        dist.barrier()
    for forgotten in range(3):
        exchange.start([float(forgotten)] * 4)
    under_way = exchange.start([10.0 + ranks.rank] * 2)
    if not ranks.rank:
        dist.barrier()
    return list(under_way.wait())


def test_starting_a_sum_does_not_wait_and_sums_may_be_left_unread(rank_pool: RankPool) -> None:
    assert rank_pool.run(2, overlapping) == [[21.0, 21.0]] * 2


def without_access(ranks: Ranks, unreachable: int) -> tuple[bool, list[float]]:
    """Whether ranks share memory if one cannot open rank 0's, and a sum by the reducer."""
    with pytest.MonkeyPatch.context() as patch:
        if ranks.rank == unreachable:
            opened = machine_ranks._open_memory
            patch.setattr(machine_ranks, "_open_memory", lambda *memory: opened(memory[0], 0, *memory[2:]))
        reducer = Reducer(ranks.group)
        statistic, _ = reducer.start(np.ones(2), 1, None).wait()
        return reducer._exchange is not None, statistic.tolist()


def test_where_one_rank_cannot_be_reached_all_use_the_process_group(rank_pool: RankPool) -> None:
    assert rank_pool.run(3, without_access, 2) == [(False, [1.0, 1.0])] * 3
    assert rank_pool.run(3, without_access, 99) == [(True, [1.0, 1.0])] * 3


def without_c(ranks: Ranks) -> bool:
    """Whether anyone is connected, where the last rank has no C functions."""
    with fresh_kernels("plain" if ranks.rank == 1 else "fast"):
        return connect_ranks(ranks.group) is not None


def test_where_one_rank_has_no_c_functions_nobody_connects(rank_pool: RankPool) -> None:
    assert rank_pool.run(2, without_c) == [False, False]


def without_sockets(ranks: Ranks) -> bool:
    """Whether ranks share memory without sockets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "socket", None)
        return connect_ranks(ranks.group) is not None


def test_sharing_memory_opens_no_socket(rank_pool: RankPool) -> None:
    assert rank_pool.run(2, without_sockets) == [True, True]


def in_turns(ranks: Ranks) -> list[list[float]]:
    """Many sums for which one rank or another is late, by less or more than the spinning time."""
    exchange = connect_ranks(ranks.group)
    assert exchange is not None
    delays = np.random.default_rng(ranks.rank).choice([0, 0, 1e-5, 1e-4, 1e-3], size=600)
    delays[ranks.rank] = 0.25
    sums = []
    for turn, delay in enumerate(delays):
        time.sleep(delay)
        sums.append(list(exchange.start([float(turn * ranks.rank)]).wait()))
    return sums


def test_ranks_that_are_late_in_turns(rank_pool: RankPool) -> None:
    for sums in rank_pool.run(3, in_turns):
        assert sums == [[3.0 * turn] for turn in range(600)]


def out_of_step(ranks: Ranks, how: str) -> str:
    """The last rank's error if another rank is not at the same sum."""
    exchange = connect_ranks(ranks.group)
    assert exchange is not None
    if ranks.rank == 0:
        for _ in range(1 if how == "another count" else 9):
            exchange.start([1.0])
    dist.barrier()
    if ranks.rank == 1:
        with pytest.raises(RuntimeError) as error:
            exchange.start([1.0, 2.0] if how == "another count" else [1.0]).wait()
        return str(error.value)
    return ""


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("another count", "rank 0 has another count of values in sum 1 of 2, at which rank 1 is"),
        ("too many sums", "rank 0 is far beyond sum 1 of 1, at which rank 1 is"),
    ],
)
def test_ranks_that_are_out_of_step(rank_pool: RankPool, how: str, message: str) -> None:
    assert rank_pool.run(2, out_of_step, how) == ["", message]


def large(ranks: Ranks) -> tuple[int, list[float]]:
    """All-reduces of the process group for a small and a large statistic, and the results."""
    calls = 0
    all_reduce = dist.all_reduce

    def counting(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        return all_reduce(*arguments, **options)

    reducer = Reducer(ranks.group)
    reducer.start(np.ones(2), 1, None).wait()
    dist.all_reduce = counting
    try:
        sums = [
            reducer.start(np.full(size, 1.0 + ranks.rank), 1, None).wait()[0].max().item()
            for size in (MAX_VALUES, MAX_VALUES + 1)
        ]
    finally:
        dist.all_reduce = all_reduce
    return calls, sums


def test_many_values_take_the_process_group(rank_pool: RankPool) -> None:
    assert rank_pool.run(2, large) == [(1, [1.5, 1.5])] * 2


def copied(ranks: Ranks, reduction: Any) -> list[float]:
    """Coefficients of a layer and of a copy that was made after its third step."""
    torch.manual_seed(ranks.rank)
    layer = BalancingLayer(create_balancer("multibalance", 2), reduction=reduction)
    for _ in range(3):
        backward_with(layer, list(torch.randn(2, 4, 3)))
    other = copy.deepcopy(layer)
    rows = list(torch.randn(2, 4, 3))
    backward_with(layer, rows)
    backward_with(other, rows)
    return [*record_of(layer).coefficients.tolist(), *record_of(other).coefficients.tolist()]


@pytest.mark.parametrize("reduction", ["exact", "delayed"])
def test_a_copy_of_a_layer_connects_anew(rank_pool: RankPool, reduction: str) -> None:
    first, second = rank_pool.run(2, copied, reduction)
    assert first == second
    assert first[:2] == first[2:]


def leave(rank: int, port: int, how: str, answer: Connection) -> None:
    """Two ranks, of which rank 1 ends or stops between two sums."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2, timeout=timedelta(seconds=3))
    assert dist.group.WORLD is not None
    exchange = connect_ranks(dist.group.WORLD)
    assert exchange is not None
    exchange.start([1.0, 1.0]).wait()
    if rank == 1:
        if how == "ends":
            os._exit(0)
        os.kill(os.getpid(), signal.SIGSTOP)
    try:
        exchange.start([1.0, 1.0]).wait()
    except RuntimeError as error:
        answer.send(str(error))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("ends", "rank 1 has ended, for which rank 0 waited"),
        ("stops", "rank 0 waited for rank 1: timed out"),
    ],
)
def test_a_rank_that_has_gone_or_stopped(how: str, message: str) -> None:
    context = preloading_context()
    ours, theirs = context.Pipe()
    port = free_port()
    processes = [context.Process(target=leave, args=(rank, port, how, theirs), daemon=True) for rank in range(2)]
    for process in processes:
        process.start()
    try:
        assert ours.poll(60)
        actual = ours.recv()
    finally:
        for process in processes:
            process.kill()
            process.join()
    assert re.search(message, actual)
