"""Runs pieces of work on the workers of this replica and waits for the other replicas."""

import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from tqdm import tqdm

from data_prep.engine.work_directory import WorkDirectory, read_marker

Item = TypeVar("Item")

REFRESH_S = 1.0


class Progress:
    """A progress bar on the first replica's stderr. It reads the markers, so it shows the work of all workers and
    replicas, and of an earlier run.

    Args:
        total: sum of ``bytes`` over all markers, or the number of markers where they have no bytes.
        files: number of segments of each file, None where unknown; empty for work that is not on files.
    """

    def __init__(self, stage: Path, total: int, files: Mapping[int, int | None], unit: str, visible: bool) -> None:
        self._stage = stage
        self._files = files
        self._visible = visible
        self._seen: dict[str, dict[str, Any]] = {}
        self._look()
        self._rows_before = self._sum("lines", 0)
        self._bar = tqdm(
            desc=stage.name,
            total=total,
            initial=self._sum("bytes", 1),
            unit=unit,
            unit_scale=bool(files),
            mininterval=REFRESH_S,
            disable=not visible,
        )

    def update(self) -> None:
        if not self._visible:
            return
        self._look()
        if self._files:
            elapsed = max(self._bar.format_dict["elapsed"], 1e-9)
            rate = (self._sum("lines", 0) - self._rows_before) / elapsed
            files = f"{self._finished_files()}/{len(self._files)} files"
            self._bar.set_postfix_str(f"{files}, {rate:,.0f} rows/s", refresh=False)
        self._bar.update(self._sum("bytes", 1) - self._bar.n)

    def close(self) -> None:
        self.update()
        self._bar.close()

    def _look(self) -> None:
        if not self._visible:
            return
        for marker in self._stage.glob("[!.]*.json"):
            # Damaged or removed markers are left to the workers.
            if marker.name not in self._seen and (record := read_marker(marker)):
                self._seen[marker.name] = record

    def _sum(self, key: str, default: int) -> int:
        return sum(record.get(key, default) for record in self._seen.values())

    def _finished_files(self) -> int:
        segments: Counter[int] = Counter()
        for name, record in self._seen.items():
            file = int(name.split("-")[0])
            segments[file] += 1
            if record["last"] and self._files[file] is None:
                segments[file] = -1
        return sum(number in (-1, self._files[file]) for file, number in segments.items())


class Workers:
    """The worker processes of this replica, shared by all stages; a single worker is this process.

    ::

        with Workers(2) as workers:
            run(work, items, workers, ...)
    """

    def __init__(self, number: int) -> None:
        self._number = number
        # Forked workers would inherit locks of the parent's threads.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(number, mp_context=context, initializer=_begin_worker) if number > 1 else None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._pool is None:
            return
        if error is not None:
            for process in multiprocessing.active_children():
                process.terminate()
        self._pool.shutdown(cancel_futures=True)
        # Without this, an error would leave the semaphores of the pool behind.
        self._pool = None

    def run(self, work: Callable[[Item], Iterator[Any]], items: Sequence[Item], progress: Progress) -> None:
        """Exhausts ``work(item)`` for each item.

        Raises:
            ValueError, OSError: of the first piece of work that failed, or a worker was killed.
        """
        if self._pool is None:
            _use_one_thread()
            for item in items:
                for _ in work(item):
                    progress.update()
            return
        waiting: set[Future[None]] = {self._pool.submit(_exhaust, work, item) for item in items}
        try:
            while waiting:
                done, waiting = wait(waiting, REFRESH_S, FIRST_EXCEPTION)
                for future in done:
                    future.result()
                progress.update()
        except BrokenProcessPool:
            raise ValueError("a worker was killed; is there enough memory? Run again to go on") from None


def run(
    work: Callable[[Item], Iterator[Any]],
    items: Sequence[Item],
    workers: Workers,
    directory: WorkDirectory,
    is_done: Callable[[], bool],
    progress: Progress,
) -> None:
    """Does this replica's share of the items, then waits until ``is_done``.

    Raises:
        ValueError, OSError: of the first piece of work that failed, on whichever replica.
    """
    try:
        workers.run(work, items[directory.replica.rank :: directory.replica.size], progress)
        directory.wait_for(is_done, progress.update)
    finally:
        progress.close()


def _begin_worker() -> None:
    # An interrupt reaches all processes of a terminal; the main process ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _use_one_thread()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends a worker whose main process is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _use_one_thread() -> None:
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)


def _exhaust(work: Callable[[Item], Iterator[Any]], item: Item) -> None:
    for _ in work(item):
        pass
