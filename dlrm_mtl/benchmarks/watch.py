"""CPU time that the watch's threads take on rank 0 while a job of many ranks trains."""

import multiprocessing
import resource
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from dlrm_mtl.benchmarks.markdown import cell, markdown_table
from dlrm_mtl.benchmarks.synthetic_cases import WatchCase
from dlrm_mtl.benchmarks.windows import Spread
from dlrm_mtl.distributed.authentication import CONNECT_S, Endpoint, accept_ranks, connect, listen
from dlrm_mtl.distributed.coordinator import FailureCoordinator
from dlrm_mtl.distributed.links import pair
from dlrm_mtl.distributed.versions import check_versions
from dlrm_mtl.distributed.watch import Watch
from dlrm_mtl.run_directory import describe_environment

STEP_S = 0.1
"""Seconds of a rank's step; ranks report their progress every few seconds."""
DESCRIPTORS = 8
"""Open files beside two per rank."""


def measure_watch(case: WatchCase) -> dict[str, Any]:
    """Watches ranks that another process simulates, over real connections and with real watches."""
    with _watched(case.ranks):
        shares = [_share_of_a_core(case.seconds) for _ in range(case.windows + 1)][1:]
    return {
        "environment": describe_environment(check_versions(), case.ranks, "cpu"),
        "ranks": case.ranks,
        "core_percent": asdict(Spread.of(shares)),
    }


def format_watch(results: Mapping[str, Any]) -> str:
    """The results as a Markdown table."""
    rows = [[f"{results['ranks']:,} ranks", cell(results["core_percent"], ".2f")]]
    return markdown_table(["watched", "of one core (%)"], rows)


@contextmanager
def _watched(ranks: int) -> Iterator[None]:
    _allow_descriptors(DESCRIPTORS + 2 * ranks)
    server, endpoint = listen("127.0.0.1")
    context = multiprocessing.get_context("spawn")
    over = context.Event()
    others = context.Process(target=_play, args=(endpoint, range(1, ranks), over))
    others.start()
    links = accept_ranks(server, endpoint.secret, frozenset(range(1, ranks)), time.monotonic() + CONNECT_S)
    if len(links) < ranks - 1:
        raise RuntimeError(f"{len(links)} of {ranks - 1} ranks connected within {CONNECT_S} s")
    own, coordinators_link = pair(0)
    coordinator = FailureCoordinator({0: coordinators_link, **links})
    watch = Watch(0, own, coordinator, timeout_s=10 * CONNECT_S)
    over_here = threading.Event()
    stepping = threading.Thread(target=_step, args=([watch], over_here))
    stepping.start()
    try:
        yield
    finally:
        over_here.set()
        stepping.join()
        over.set()
        watch.leave()
        others.join()


def _share_of_a_core(seconds: float) -> float:
    """CPU time of this process in percent, while it waits."""
    start, busy = time.perf_counter(), time.process_time()
    time.sleep(seconds)
    return 100 * (time.process_time() - busy) / (time.perf_counter() - start)


def _play(endpoint: Endpoint, ranks: Sequence[int], over: Any) -> None:
    _allow_descriptors(DESCRIPTORS * (len(ranks) + 1))
    deadline = time.monotonic() + CONNECT_S
    watches = [Watch(rank, connect(endpoint, rank, deadline), timeout_s=10 * CONNECT_S) for rank in ranks]
    _step(watches, over)
    for watch in watches:
        watch.leave()


def _step(watches: Sequence[Watch], over: Any) -> None:
    step = 0
    while not over.wait(STEP_S):
        for watch in watches:
            watch.progress("training", step)
        step += 1


def _allow_descriptors(number: int) -> None:
    """Raises a ValueError if the system refuses."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
