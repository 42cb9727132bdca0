"""Runs functions on W real gloo processes."""

import os
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from typing import Any

from tests.preloaded import preloading_context, rank_variables
from tests.waiting import free_port

TIMEOUT_S = 60


class RankPool:
    """Process groups of one, two or three ranks, started at first use and kept: importing torchrec takes seconds.

    ``pool.run(2, function, *arguments)`` calls ``function(ranks, *arguments)`` on both ranks of a group of two and
    returns their results by rank. Functions live at the top of a module; results are plain data or numpy arrays. The
    first rank that raises ends its group, and its error is raised here.
    """

    def __init__(self) -> None:
        self._groups: dict[int, _Group] = {}

    def run(self, world_size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        if world_size not in self._groups:
            self._groups[world_size] = _Group(world_size)
        try:
            return self._groups[world_size].run(function, arguments)
        except BaseException:
            self._groups.pop(world_size).kill()
            raise

    def close(self) -> None:
        for group in self._groups.values():
            group.close()


class _Group:
    def __init__(self, world_size: int) -> None:
        context = preloading_context()
        port = free_port()
        self._connections: list[Connection] = []
        self._processes: list[ForkServerProcess] = []
        for rank in range(world_size):
            ours, theirs = context.Pipe()
            # Not daemons: those could have no reader processes.
            process = context.Process(target=_serve, args=(theirs, rank, world_size, port))
            process.start()
            theirs.close()
            self._connections.append(ours)
            self._processes.append(process)

    def run(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> list[Any]:
        for connection in self._connections:
            connection.send((function, arguments))
        results: dict[Connection, Any] = {}
        while len(results) < len(self._connections):
            ready = wait([c for c in self._connections if c not in results], timeout=2 * TIMEOUT_S)
            if not ready:
                raise TimeoutError(f"{function.__name__} did not return on every rank")
            for readable in ready:
                assert isinstance(readable, Connection)
                succeeded, results[readable] = readable.recv()
                if not succeeded:
                    raise results[readable]
        return [results[connection] for connection in self._connections]

    def close(self) -> None:
        for connection in self._connections:
            connection.send(None)
        for process in self._processes:
            process.join(TIMEOUT_S)

    def kill(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()


def _serve(connection: Connection, rank: int, world_size: int, port: int) -> None:
    from dlrm_mtl.distributed.processes import process_group
    from dlrm_mtl.distributed.quiet import silence_known_warnings

    os.environ.update(rank_variables(rank, world_size, port))
    silence_known_warnings()
    with process_group(TIMEOUT_S) as ranks:
        while (task := connection.recv()) is not None:
            function, arguments = task
            try:
                connection.send((True, function(ranks, *arguments)))
            except Exception as error:
                connection.send((False, error))
