"""The training loop: one arm, or several in turns. Control and treatment run through the same lines."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dlrm_mtl.config import RunConfig
from dlrm_mtl.training.metrics import TaskMetrics
from dlrm_mtl.training.run_log import RunLog, progress_bar
from dlrm_mtl.training.session import Session
from dlrm_mtl.training.trainer import Trainer


@dataclass(frozen=True)
class ArmResult:
    """One arm, trained from one seed."""

    metrics: Sequence[TaskMetrics]
    """Of each task, over the eval split."""
    qps: Sequence[float]
    """Global samples per second of each timed window, without the warm-up; windows of the same index were trained side
    by side."""
    sums: npt.NDArray[np.float64]
    """(K, M, 4) evaluation sums in buckets of rows, see :class:`dlrm_mtl.training.metrics.MetricSums`."""


def train_arms(session: Session, arms: Sequence[str], seed: int, directory: Path) -> dict[str, ArmResult]:
    """Trains arms from one seed to the end and evaluates them. Collective.

    They take turns of one window, so that the machine's noise meets all alike. Logs go to ``directory``, one folder
    per arm.
    """
    config, first = session.config, session.ranks.is_first
    trainers = {arm: session.trainer(arm, seed) for arm in arms}
    qps: dict[str, list[float]] = {arm: [] for arm in arms}
    if first:
        _announce(trainers[arms[0]], config)
    with ExitStack() as stack:
        logs = {arm: stack.enter_context(RunLog(directory / _folder(arm), session.tasks, first)) for arm in arms}
        steps = sum(trainer.total_steps for trainer in trainers.values())
        bar = stack.enter_context(progress_bar(steps, f"seed {seed}", first))
        turns, windows = list(arms), 0
        while not all(trainer.done for trainer in trainers.values()):
            for arm in turns:
                trainer = trainers[arm]
                window = trainer.train_window(config.log_every)
                logs[arm].window(window)
                bar.update(window.last_step - window.first_step)
                if window.qps is not None and windows >= config.warmup_windows:
                    qps[arm].append(window.qps)
                if _evaluation_is_due(config, window.first_step, window.last_step) and not trainer.done:
                    logs[arm].evaluation(window.last_step, trainer.evaluate().compute())
            # Each arm goes first as often as last: what a turn leaves behind in caches favours none.
            turns.reverse()
            windows += 1
        results = {}
        for arm, trainer in trainers.items():
            sums = trainer.evaluate()
            metrics = sums.compute()
            logs[arm].evaluation(trainer.step, metrics)
            results[arm] = ArmResult(metrics, qps[arm], sums.sums.cpu().numpy())
    return results


def _announce(trainer: Trainer, config: RunConfig) -> None:
    print(
        f"{trainer.total_steps} steps of {config.batch_size} rows per arm;"
        f" {trainer.rows_dropped_per_epoch} rows per epoch fill no batch and are left out, others in each epoch",
        flush=True,
    )


def _evaluation_is_due(config: RunConfig, first_step: int, last_step: int) -> bool:
    """Whether an evaluation on schedule falls into a window."""
    every = config.eval_every
    return every is not None and last_step // every > first_step // every


def _folder(arm: str) -> str:
    return arm.replace(":", "-").replace("/", "-")
