"""Training runs that are interrupted and continued, and their results."""

import json
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

from dlrm_mtl.data import reader_process
from tests.children import LIMIT_S as READERS_S
from tests.children import processes_with
from tests.faults.outcome import checkpoints, newest_step
from tests.faults.rank import Faults, run_rank
from tests.waiting import free_port, wait_for

LIMIT_S = 120
"""Seconds after which an attempt counts as hanging."""

Watcher = Callable[[Sequence[BaseProcess]], bool]
"""Inspects running processes and may kill some; returns whether it is done."""


@dataclass(frozen=True)
class Attempt:
    """How one start of a run ended."""

    codes: list[int]
    """Exit codes by rank; negative for the signal that ended it."""
    output: str

    @property
    def finished(self) -> bool:
        return not any(self.codes)


@dataclass
class FaultyRun:
    """A run in a directory of its own.

    Args:
        directory: of the run and its records.
        data: directory of the data set.
        options: further options of ``dlrm_mtl.train``.
        nan: see :class:`tests.faults.rank.Faults`; the same in every attempt, since it is part of what is trained.
    """

    directory: Path
    data: Path
    options: Sequence[str]
    nan: tuple[int, int, int] | None = None
    attempts: list[Attempt] = field(default_factory=list)
    _port: int = 0

    @property
    def out(self) -> Path:
        return self.directory / "run"

    @property
    def checkpoints(self) -> list[Path]:
        """Finished checkpoints, oldest first."""
        return checkpoints(self.out)

    @property
    def step(self) -> int:
        """Step of the newest checkpoint; 0 if there is none."""
        return newest_step(self.out)

    @property
    def readers(self) -> list[int]:
        """Process ids of the readers of the present attempt."""
        # They are started with the environment that their rank has made itself.
        found = processes_with("MASTER_PORT", str(self._port))
        return [pid for pid, command in found.items() if reader_process.__name__ in command]

    def start(self, world_size: int, faults: Faults | None = None, watcher: Watcher | None = None) -> Attempt:
        """Starts or continues the run, and waits for its end."""
        self.directory.mkdir(parents=True, exist_ok=True)
        number = len(self.attempts)
        faults = faults or Faults()
        port = free_port()
        arguments = ["--data", str(self.data), "--out", str(self.out), *self.options]
        # Forked, since importing torchrec takes seconds. There are no threads here that a child could miss.
        context = multiprocessing.get_context("fork")
        log = self.directory / f"attempt-{number}.log"
        processes = [
            context.Process(
                target=run_rank,
                args=(
                    *(rank, world_size, port, arguments),
                    *(self.directory / f"trace-{number:04d}-{rank}.jsonl", log),
                    Faults(faults.kill, faults.terminate, self.nan, faults.full_disk, faults.vanish),
                ),
            )
            for rank in range(world_size)
        ]
        for process in processes:
            process.start()
        self._port = port
        self._wait(processes, watcher)
        wait_for(lambda: not self.readers, READERS_S, lambda: f"{self.directory}: readers of attempt {number} remain")
        attempt = Attempt([process.exitcode or 0 for process in processes], log.read_text())
        self.attempts.append(attempt)
        return attempt

    def rows(self) -> dict[int, list[int]]:
        """Rows of each step as it was trained last: steps between a checkpoint and a kill are trained again, and only
        the last time counts."""
        by_step: dict[int, dict[str, list[int]]] = {}
        for trace in sorted(self.directory.glob("trace-*.jsonl")):
            number = trace.name.split("-")[1]
            for line in trace.read_text().splitlines():
                if line.endswith("]"):  # the last one may be cut off by a kill
                    step, rows = json.loads(line)
                    by_step.setdefault(step, {}).setdefault(number, []).extend(rows)
        return {step: attempts[max(attempts)] for step, attempts in sorted(by_step.items())}

    def miscounted_rows(self, total: int, steps_per_epoch: int) -> int:
        """Rows not trained on exactly once in each epoch, except those left out at its end."""
        rows, wrong = self.rows(), 0
        for first in range(0, len(rows), steps_per_epoch):
            epoch = Counter(row for step in range(first, first + steps_per_epoch) for row in rows[step])
            used = sum(map(len, (rows[step] for step in range(first, first + steps_per_epoch))))
            wrong += sum(count - 1 for count in epoch.values()) + max(used - total, 0)
        return wrong

    def _wait(self, processes: Sequence[BaseProcess], watcher: Watcher | None) -> None:
        end = time.monotonic() + LIMIT_S
        watching = watcher is not None
        while any(process.is_alive() for process in processes):
            if watching and watcher is not None:
                watching = not watcher(processes)
            if time.monotonic() > end:
                for process in processes:
                    os.kill(process.pid or 0, signal.SIGKILL)
                raise TimeoutError(f"{self.directory}: attempt {len(self.attempts)} hangs")
            time.sleep(0.002 if watching else 0.02)


def kill_all(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, signal.SIGKILL)
