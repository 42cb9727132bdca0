"""Runs a function on W real gloo processes."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

MAX_RANKS = 3
TIMEOUT_S = 60


class RankPool:
    """Up to three processes, started once and kept, since importing torchrec takes seconds.

    ``pool.run(2, function, *arguments)`` calls ``function(ranks, *arguments)`` on two ranks of a fresh process group
    and returns their results by rank. Functions live at the top of a module; results are plain data or numpy arrays.
    """

    def __init__(self) -> None:
        self._executor = ProcessPoolExecutor(MAX_RANKS, mp_context=multiprocessing.get_context("spawn"))

    def run(self, world_size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        futures = [
            self._executor.submit(_run_rank, rank, world_size, port, function, arguments) for rank in range(world_size)
        ]
        return [future.result(timeout=2 * TIMEOUT_S) for future in futures]

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)


def _run_rank(rank: int, world_size: int, port: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    from dlrm_mtl.distributed.processes import process_group
    from dlrm_mtl.distributed.quiet import silence_known_warnings

    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world_size),
        LOCAL_WORLD_SIZE=str(world_size),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    silence_known_warnings()
    with process_group(TIMEOUT_S) as ranks:
        return function(ranks, *arguments)
