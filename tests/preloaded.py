"""Processes that begin with torch and torchrec imported, which takes seconds of each: forks of one that has done so."""

import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

LIBRARIES = ["torch", "torchrec", "torch.distributed.checkpoint", "fbgemm_gpu", "tensordict", "tyro", "pyarrow.parquet"]


def preloading_context() -> ForkServerContext:
    """Starts processes that have imported :data:`LIBRARIES`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    return context


class ModuleProcess:
    """``python -m module arguments`` with its output in files of a directory.

    Module, arguments, environment and standard streams are those of a process of its own; imports of
    :data:`LIBRARIES` are already done, and what Python does at its very end (atexit) is left out.
    """

    def __init__(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str], cwd: Path, streams: Path
    ) -> None:
        self._streams = streams
        self._process: ForkServerProcess = preloading_context().Process(
            target=_run, args=(module, list(arguments), dict(environment), cwd, streams)
        )
        self._process.start()

    def wait(self, timeout: float) -> subprocess.CompletedProcess[str]:
        """Waits for the end."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
            raise TimeoutError(f"does not end:\n{self._read('stdout')}\n{self._read('stderr')}")
        return subprocess.CompletedProcess(
            self._process.name, self._process.exitcode, self._read("stdout"), self._read("stderr")
        )

    def _read(self, stream: str) -> str:
        file = self._streams / stream
        return file.read_text() if file.exists() else ""


def run_module(
    module: str, arguments: Sequence[str], environment: Mapping[str, str], cwd: Path, ranks: int, timeout: float
) -> subprocess.CompletedProcess[str]:
    """Runs a module to its end: alone (``ranks`` 0), or as the ranks of a job, in the environment that torchrun gives
    them. Outputs are joined by rank; the exit code is the first that is not 0."""
    with tempfile.TemporaryDirectory() as directory:
        processes = []
        for rank, variables in enumerate(_variables(ranks)):
            streams = Path(directory) / str(rank)
            streams.mkdir()
            processes.append(ModuleProcess(module, arguments, {**environment, **variables}, cwd, streams))
        ended = [process.wait(timeout) for process in processes]
    return subprocess.CompletedProcess(
        [module, *arguments],
        next((process.returncode for process in ended if process.returncode), 0),
        "".join(process.stdout for process in ended),
        "".join(process.stderr for process in ended),
    )


def _variables(ranks: int) -> list[dict[str, str]]:
    if not ranks:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = {"WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    jobs = [{**job, "RANK": rank, "LOCAL_RANK": rank} for rank in range(ranks)]
    return [{name: str(value) for name, value in variables.items()} for variables in jobs]


def _run(module: str, arguments: list[str], environment: dict[str, str], cwd: Path, streams: Path) -> None:
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(streams / name, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
