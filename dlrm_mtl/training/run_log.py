"""Logs of a run: metrics.jsonl, progress on the terminal."""

import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tqdm import tqdm

from dlrm_mtl.json_lines import JsonLines
from dlrm_mtl.metrics.task_metrics import TaskMetrics, as_record
from dlrm_mtl.monitoring.monitor import ArmMonitor
from dlrm_mtl.training.window import Window


class RunLog:
    """One arm's log under its directory; does nothing on ranks other than the first.

    ``metrics.jsonl`` has one object per line: ``{"kind": "train", "step": ..., "qps": ..., "window": {TASK: ...},
    "lifetime": {TASK: ...}, "skipped_steps": ..., "nonfinite_tasks": {TASK: ...}, "task_weights": ..., ...}`` per
    window, ``{"kind": "eval", "step": ..., "tasks": ..., "products": {NAME: ...}}`` per evaluation.

    Args:
        step: at which training starts or continues.
        keep_bytes: length of ``metrics.jsonl`` at that step; the rest is cut off. If the file is shorter, as after a
            crash of the machine, a line on stderr says so, and the log continues after it.
        monitor: gets every line, too.
    """

    def __init__(
        self,
        directory: Path,
        tasks: Sequence[str],
        enabled: bool,
        step: int = 0,
        keep_bytes: int = 0,
        monitor: ArmMonitor | None = None,
    ) -> None:
        self._tasks = tasks
        self._lines = None
        self._monitor = monitor
        if enabled:
            file = directory / "metrics.jsonl"
            self._lines = JsonLines(file, keep_bytes)
            if missing := self._lines.bytes_missing:
                print(
                    f"{file}: {missing:,} of the {keep_bytes:,} bytes that were written up to step {step} are missing;"
                    " curves have a gap there, results are not affected",
                    file=sys.stderr,
                    flush=True,
                )
        if monitor is not None:
            monitor.begin()

    @property
    def bytes(self) -> int:
        """Length of ``metrics.jsonl``."""
        return self._lines.bytes if self._lines is not None else 0

    def sync(self) -> None:
        """Waits until all lines of ``metrics.jsonl`` are on the disk."""
        if self._lines is not None:
            self._lines.sync()

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.sync()
        if self._lines is not None:
            self._lines.close()
        if self._monitor is not None:
            self._monitor.end(error)

    def window(self, window: Window) -> None:
        """Logs a training window."""
        self._write(
            window.last_step,
            {
                "kind": "train",
                "qps": window.qps,
                "window": self._by_task(window.metrics),
                "lifetime": self._by_task(window.lifetime),
                "skipped_steps": window.skipped_steps,
                "nonfinite_tasks": window.nonfinite_tasks,
                "rows_lost": window.rows_lost,
                **window.balancing,
            },
        )

    def evaluation(
        self, step: int, tasks: Sequence[TaskMetrics], products: Mapping[str, TaskMetrics] = MappingProxyType({})
    ) -> None:
        """Logs an evaluation."""
        of_products = {name: as_record(metrics) for name, metrics in products.items()}
        self._write(
            step,
            {"kind": "eval", "tasks": self._by_task(tasks), **({"products": of_products} if of_products else {})},
        )

    def _by_task(self, metrics: Sequence[TaskMetrics]) -> dict[str, Any]:
        return {task: as_record(values) for task, values in zip(self._tasks, metrics, strict=True)}

    def _write(self, step: int, record: dict[str, Any]) -> None:
        if self._lines is not None:
            self._lines.append({"step": step, **record})
        if self._monitor is not None:
            self._monitor.log(step, record)


@contextmanager
def progress_bar(total: int, description: str, enabled: bool, done: int = 0) -> "Iterator[tqdm[Any]]":
    """Progress on rank 0's stderr: a live bar on a terminal; elsewhere a whole line at intervals, since launchers
    prefix every line. No line follows the one that says why the process ends."""
    options: dict[str, Any] = {"total": total, "desc": description, "unit": "step", "initial": done}
    if sys.stderr.isatty():
        with tqdm(**options, disable=not enabled, dynamic_ncols=True) as bar:
            yield bar
        return
    line = "{desc}: {n_fmt}/{total_fmt} steps [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
    with tqdm(**options, disable=not enabled, mininterval=10, bar_format=line, file=_WholeLines()) as bar:
        try:
            yield bar
        except BaseException:
            bar.leave = False
            raise


class _WholeLines(io.StringIO):
    """stderr for tqdm where there is no terminal: each state of the bar is a line, without the carriage returns and
    blanks that would overwrite the last one."""

    def write(self, text: str) -> int:
        if state := text.strip():
            print(state, file=sys.stderr, flush=True)
        return len(text)
