"""All that is seen of a run from outside: its status and its loggers."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from dlrm_mtl.cli import as_dict
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.monitoring.background import Background
from dlrm_mtl.monitoring.logger import LoggedArm, Logger, Outcome, load_logger, scalars
from dlrm_mtl.monitoring.mirror import Mirror
from dlrm_mtl.monitoring.status import Status, now_text
from dlrm_mtl.monitoring.tensorboard import TensorBoard
from dlrm_mtl.monitoring.time_to_save import time_to_save
from dlrm_mtl.quoting import shorten
from dlrm_mtl.run_config import TrainingConfig
from dlrm_mtl.run_directory import flat

END_S: Mapping[Outcome, float] = {"finished": 60.0, "interrupted": 10.0, "failed": 2.0}
"""Seconds that the end of a run waits for its loggers."""


class Monitor:
    """The status and the loggers of a job. Without a configuration, as on all ranks but the first, it does nothing.

    Raises:
        ValueError: see :func:`load_logger`; the directory of the Prometheus file is missing.
    """

    def __init__(self, config: TrainingConfig | None = None, mirror: Mirror | None = None) -> None:
        self._mirror = mirror
        self._status: Status | None = None
        self._loggers: list[tuple[Logger, Background]] = []
        self._round_began = self._round_s = 0.0
        self._has_saved = False
        if config is None:
            return
        file, self._config = config.prometheus, config
        if file is not None and not file.parent.is_dir():
            raise ValueError(f"prometheus: {file.parent} is not a directory, expected that of the textfile collector")
        loggers: dict[str, Logger] = {"TensorBoard": TensorBoard()}
        if config.logger is not None:
            loggers[f"logger {config.logger}"] = load_logger(config.logger)
        self._loggers = [(logger, Background(name)) for name, logger in loggers.items()]
        self._status = Status(config.out, file)

    def place(self, **facts: Any) -> None:
        """Says what part of the job is trained now, in JSON values."""
        if self._status is not None:
            self._status.set(**facts)

    def begin(self, seed: int, step: int, steps: int) -> None:
        """Training from a seed begins, or goes on, at a step of so many."""
        if self._status is not None:
            self._round_began = time.monotonic()
            self._status.set(seed=seed, step=step, steps=steps, samples_per_second=None, checkpoint=None, arms={})
            self._status.write_soon()
            self._copy_soon()  # the results of the seed before

    def open_arm(self, arm: str, seed: int, directory: Path, step: int) -> "ArmMonitor | None":
        """What the log of an arm gives its lines to; None: nothing does."""
        if self._status is None:
            return None
        name = str(directory.relative_to(self._config.out))
        logged = LoggedArm(name, arm, seed, directory, step, flat(as_dict(self._config)))
        return ArmMonitor(logged, self._status, self._loggers)

    def end_round(self, step: int, rows: int) -> None:
        """Every arm has trained a window, on ``rows`` rows together, up to a step."""
        if self._status is not None:
            began, self._round_began = self._round_began, time.monotonic()
            self._round_s = self._round_began - began
            self._status.set(step=step, samples_per_second=rows / self._round_s)
            self._status.write_soon()

    def checkpoint(self, step: int, seconds: float) -> None:
        """A checkpoint is complete, so many seconds after it was begun."""
        if self._status is not None:
            self._status.set(checkpoint={"step": step, "time": now_text(), "seconds": round(seconds, 3)})
            self._status.write_soon()
            if not self._has_saved and (line := time_to_save(self._round_s, seconds)):
                print(line, file=sys.stderr, flush=True)
            self._has_saved = True
            self._copy_soon()

    def end(self, outcome: Outcome, error: str = "") -> None:
        """The job ends; waits a while for the loggers. Further calls do nothing."""
        status, self._status = self._status, None
        if status is not None:
            for _, thread in self._loggers:
                thread.close(END_S[outcome])
            status.set(logger_failures=sum(thread.failures for _, thread in self._loggers))
            status.end(outcome, shorten(error))

    def _copy_soon(self) -> None:
        if self._mirror is not None and self._status is not None:
            self._mirror.copy_soon()
            self._status.set(mirror_failures=self._mirror.failures)


class ArmMonitor:
    """Gives the numbers of an arm with one seed to the status and the loggers."""

    def __init__(self, arm: LoggedArm, status: Status, loggers: Sequence[tuple[Logger, Background]]) -> None:
        self._arm, self._status, self._loggers = arm, status, loggers

    def begin(self) -> None:
        """The arm begins or goes on; its directory exists."""
        for logger, thread in self._loggers:
            thread.submit(partial(logger.begin, self._arm))

    def log(self, step: int, record: Mapping[str, Any]) -> None:
        """A line of metrics.jsonl."""
        values = scalars(record, f"{record['kind']}/")
        for logger, thread in self._loggers:
            thread.submit(partial(logger.log, self._arm, step, values))
        if record["kind"] == "train":
            facts = {"step": step, "qps": record["qps"], "window": _losses(record["window"])}
        else:
            facts = {"evaluated_step": step, "evaluation": _losses(record["tasks"])}
        self._status.set_arm(self._arm.arm, facts)

    def end(self, error: BaseException | None) -> None:
        """The arm ends, maybe by an exception."""
        for logger, thread in self._loggers:
            thread.submit(partial(logger.end, self._arm, _outcome(error)))


@contextmanager
def monitored(config: TrainingConfig, ranks: Ranks, mirror: Mirror | None = None) -> Iterator[Monitor]:
    """The monitor of a job, which says what the ranks communicate by, and how the job ends. Collective.

    Args:
        mirror: from which the run directory is restored, and to which checkpoints are copied.

    Raises:
        ValueError: on every rank, see :class:`Monitor` and :meth:`Mirror.begin`.
    """
    if ranks.is_first and ranks.network:
        print(ranks.network, file=sys.stderr, flush=True)
    monitor = ranks.run_on_all(lambda: Monitor(config if ranks.is_first else None, mirror))
    if mirror is not None:
        mirror.begin(ranks)
    ranks.watch.before_end(partial(monitor.end, "failed"))
    try:
        yield monitor
    except BaseException as error:
        outcome = _outcome(error)
        if outcome == "interrupted" or ranks.world_size == 1:
            monitor.end(outcome, " ".join(str(error).split()) or type(error).__name__)
        raise  # of several ranks the watch finds the one that failed first
    monitor.end("finished")


def _outcome(error: BaseException | None) -> Outcome:
    if error is None:
        return "finished"
    return "interrupted" if isinstance(error, SystemExit | KeyboardInterrupt) else "failed"


def _losses(tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """NE or NMSE of each task."""
    return {task: {name: values[name] for name in ("ne", "nmse") if name in values} for task, values in tasks.items()}
