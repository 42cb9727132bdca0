"""Processes with most modules already imported, forked from one that did so, which saves seconds each."""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from tests.waiting import free_port


def preloading_context() -> ForkServerContext:
    """Starts processes that have imported the modules of :mod:`tests.preload`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.preload"])
    return context


class ModuleProcess:
    """``python -m module arguments``, with the interface of a Popen with pipes for its output.

    Differs from a new process in two ways: most modules are already imported, and functions registered with atexit do
    not run.

    Args:
        own_group: whether it leads a process group of its own.
    """

    def __init__(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str], cwd: Path, own_group: bool = False
    ) -> None:
        self._streams = tempfile.TemporaryDirectory()
        self._process: ForkServerProcess = preloading_context().Process(
            target=_run, args=(module, list(arguments), dict(environment), cwd, Path(self._streams.name), own_group)
        )
        self._process.start()
        self._output: tuple[str, str] | None = None
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Waits for the end; returns stdout and stderr.

        Raises:
            TimeoutError: the process has not ended by then, and is killed.
        """
        if self._output is None:
            self._process.join(timeout)
            hangs = self._process.exitcode is None
            self._process.kill()
            self._process.join()
            self._output = self._read("stdout"), self._read("stderr")
            self._streams.cleanup()
            if hangs:
                raise TimeoutError("does not end:\n" + "\n".join(self._output))
        return self._output

    def _read(self, stream: str) -> str:
        file = Path(self._streams.name) / stream
        return file.read_text() if file.exists() else ""


def run_module(
    module: str, arguments: Sequence[str], environment: Mapping[str, str], cwd: Path, ranks: int, timeout: float
) -> subprocess.CompletedProcess[str]:
    """Runs a module to its end: alone (``ranks`` 0), or as the ranks of a job, in the environment that torchrun gives
    them. Outputs are joined by rank; the exit code is the first that is not 0."""
    port = free_port()
    jobs = [rank_variables(rank, ranks, port) for rank in range(ranks)] or [{}]
    processes = [ModuleProcess(module, arguments, {**environment, **variables}, cwd) for variables in jobs]
    outputs = [process.communicate(timeout) for process in processes]
    return subprocess.CompletedProcess(
        [module, *arguments],
        next((process.returncode for process in processes if process.returncode), 0),
        "".join(stdout for stdout, _ in outputs),
        "".join(stderr for _, stderr in outputs),
    )


def rank_variables(rank: int, world_size: int, port: int) -> dict[str, str]:
    """What torchrun puts in the environment of a rank on one machine."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "LOCAL_WORLD_SIZE": world_size}
    return {name: str(value) for name, value in {**numbers, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items()}


def _run(
    module: str, arguments: list[str], environment: dict[str, str], cwd: Path, streams: Path, own_group: bool
) -> None:
    if own_group:
        os.setsid()
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(streams / name, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
