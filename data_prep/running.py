"""Runs pieces of work on this replica's workers, and waits for the other replicas' pieces."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from tqdm import tqdm

from data_prep.workplace import Workplace
from dlrm_mtl.files import read_json

Item = TypeVar("Item")

REFRESH_S = 1.0


class Progress:
    """A bar on the first replica's stderr: bytes of the log, rows per second, time left. It reads the markers, and so
    shows the work of all workers and replicas; what an earlier run had finished is shown as already done."""

    def __init__(self, stage: Path, name: str, total: int, unit: str, visible: bool) -> None:
        self._stage = stage
        self._seen: dict[str, tuple[int, int]] = {}
        self._unit = unit
        self._look()
        done = self._done()
        self._rows_before = self._rows()
        self._bar = tqdm(
            desc=name,
            total=total,
            initial=done,
            unit="B" if unit == "bytes" else f" {unit}",
            unit_scale=unit == "bytes",
            mininterval=REFRESH_S,
            disable=not visible,
        )

    def update(self) -> None:
        self._look()
        if self._unit == "bytes":
            elapsed = max(self._bar.format_dict["elapsed"], 1e-9)
            rate = (self._rows() - self._rows_before) / elapsed
            self._bar.set_postfix_str(f"{rate:,.0f} rows/s", refresh=False)
        self._bar.update(self._done() - self._bar.n)

    def close(self) -> None:
        self.update()
        self._bar.close()

    def _look(self) -> None:
        for marker in self._stage.glob("[!.]*.json"):
            if marker.name not in self._seen:
                record = read_json(marker)
                self._seen[marker.name] = (record.get("bytes", 1), record.get("lines", 0))

    def _done(self) -> int:
        return sum(size for size, _ in self._seen.values())

    def _rows(self) -> int:
        return sum(rows for _, rows in self._seen.values())


def run(
    work: Callable[[Item], Iterator[Any]],
    items: Sequence[Item],
    workers: int,
    place: Workplace,
    is_done: Callable[[], bool],
    progress: Progress,
) -> None:
    """Does this replica's share of the items, each by exhausting ``work(item)``, then waits until ``is_done``.

    Raises:
        ValueError, OSError: of the first piece of work that failed, on whichever replica.
    """
    mine = items[place.replica.rank :: place.replica.size]
    try:
        if min(workers, len(mine)) > 1:
            _run_in_pool(work, mine, min(workers, len(mine)), progress)
        else:
            _use_one_thread()
            for item in mine:
                for _ in work(item):
                    progress.update()
        place.wait_for(is_done, progress.update)
    finally:
        progress.close()


def _run_in_pool(
    work: Callable[[Item], Iterator[Any]], items: Sequence[Item], workers: int, progress: Progress
) -> None:
    # Forked workers would inherit the threads of the parent's libraries, and their locks.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_use_one_thread) as pool:
        waiting: set[Future[None]] = {pool.submit(_exhaust, work, item) for item in items}
        try:
            while waiting:
                done, waiting = wait(waiting, REFRESH_S, FIRST_EXCEPTION)
                for future in done:
                    future.result()
                progress.update()
        except BrokenProcessPool:
            raise ValueError("a worker was killed; is there enough memory? Run again to go on") from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _use_one_thread() -> None:
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)


def _exhaust(work: Callable[[Item], Iterator[Any]], item: Item) -> None:
    for _ in work(item):
        pass
