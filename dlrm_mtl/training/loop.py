"""The training loop for one arm, or several in turns; the same code for control and treatments."""

import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from dlrm_mtl.distributed.checkpoint import Checkpoint
from dlrm_mtl.ending import Terminated
from dlrm_mtl.file_names import file_names
from dlrm_mtl.metrics.evaluation import Evaluation
from dlrm_mtl.run_config import RunConfig
from dlrm_mtl.run_directory import record_start
from dlrm_mtl.training.checkpoints import RunCheckpoints
from dlrm_mtl.training.interruption import termination_requested
from dlrm_mtl.training.run_log import RunLog, progress_bar
from dlrm_mtl.training.session import ArmTrainer, Session


@dataclass(frozen=True)
class ArmResult:
    """Results of one arm with one seed."""

    evaluation: Evaluation
    """Evaluation of the trained model on the eval split."""
    qps: Sequence[float]
    """Global samples per second of each timed window, without the warm-up; windows of the same index were trained side
    by side."""
    skipped_steps: int
    """Steps without effect, because a loss or gradient was not finite."""
    rows_lost: int
    """Training rows of shards that were lost during training."""
    end_to_end_qps: Sequence[float] = ()
    """Global samples per second of each window without the warm-up, over an arm's whole turn: all steps, metrics,
    diagnostics, logs."""


@dataclass
class Progress:
    """State of the loop beside its trainers, kept in every checkpoint."""

    rounds: int
    """Number of windows that every arm has trained."""
    qps: dict[str, list[float]]
    """See :attr:`ArmResult.qps`, by arm."""
    end_to_end_qps: dict[str, list[float]]
    """See :attr:`ArmResult.end_to_end_qps`, by arm."""
    log_bytes: dict[str, int]
    """Length of each arm's metrics.jsonl in bytes."""

    @classmethod
    def begin(cls, arms: Sequence[str]) -> "Progress":
        return cls(0, {arm: [] for arm in arms}, {arm: [] for arm in arms}, dict.fromkeys(arms, 0))


def train_arms(session: Session, arms: Sequence[str], seed: int, directory: Path) -> dict[str, ArmResult]:
    """Trains arms from one seed to the end and evaluates them. Collective.

    They take turns of one window, so that the machine's noise affects all alike. Logs, one folder per arm, and
    checkpoints go to ``directory``; training continues from the newest checkpoint if there is one.

    Raises:
        Terminated: after a checkpoint, when a rank was told to end by SIGTERM.
    """
    config, ranks = session.config, session.ranks
    torch.manual_seed(seed)  # torch's own generators, which are in every checkpoint, start at random
    trainers = {arm: session.trainer(arm, seed) for arm in arms}
    one = trainers[arms[0]]
    with ExitStack() as stack:
        for trainer in trainers.values():
            stack.enter_context(closing(trainer))
        requested = stack.enter_context(termination_requested())
        checkpoints = stack.enter_context(RunCheckpoints(session, trainers, directory))
        checkpoint = checkpoints.restore()
        progress = Progress.begin(arms)
        if checkpoint is not None:
            if checkpoint.facts.get("progress") is None:
                raise ValueError(f"{checkpoint.path}: progress is missing")
            progress = replace(progress, **checkpoint.facts["progress"])
        if ranks.is_first:
            _announce(one, session, seed, checkpoint)
        logs = {
            arm: stack.enter_context(
                RunLog(directory / folder, session.tasks, ranks.is_first, one.step, progress.log_bytes[arm])
            )
            for arm, folder in file_names(arms).items()
        }
        total, done = len(arms) * one.total_steps, len(arms) * one.step
        bar = stack.enter_context(progress_bar(total, f"seed {seed}", ranks.is_first, done))
        warm = progress.rounds + config.warmup_windows  # a restart has its own warm-up
        while not one.done:
            # Each arm goes first as often as last, so that what a turn leaves in caches favours none.
            for arm in arms if progress.rounds % 2 == 0 else reversed(arms):
                trainer, start = trainers[arm], time.perf_counter()
                window = trainer.train_window(config.log_every)
                logs[arm].window(window)
                steps = window.last_step - window.first_step
                bar.update(steps)
                if progress.rounds >= warm:
                    seconds = time.perf_counter() - start
                    progress.end_to_end_qps[arm].append(steps * config.batch_size / seconds)
                    if window.qps is not None:
                        progress.qps[arm].append(window.qps)
                if _evaluation_is_due(config, window.first_step, window.last_step) and not trainer.done:
                    logs[arm].evaluation(window.last_step, *trainer.evaluation_metrics())
            progress.rounds += 1
            ending, due = ranks.any(requested(), checkpoints.due(one.step, last=one.done))
            if ending or due:
                for log in logs.values():
                    log.sync()
                progress.log_bytes = {arm: logs[arm].bytes for arm in arms}
                checkpoints.save({"progress": asdict(progress)})
            if ending:
                raise Terminated(f"at step {one.step} of {one.total_steps}")
        results: dict[str, ArmResult] = {}
        for arm, trainer in trainers.items():
            if ranks.any(requested())[0]:
                raise Terminated(f"before {arm} was evaluated, at step {one.step} of {one.total_steps}")
            evaluation = trainer.evaluate()
            logs[arm].evaluation(trainer.step, evaluation.tasks, evaluation.products)
            results[arm] = ArmResult(
                evaluation,
                progress.qps[arm],
                trainer.skipped_steps,
                trainer.rows_lost,
                progress.end_to_end_qps[arm],
            )
    return results


def _announce(trainer: ArmTrainer, session: Session, seed: int, checkpoint: Checkpoint | None) -> None:
    config = session.config
    start = {"seed": seed, "step": trainer.step, **session.environment, "changed_options": session.changed_options}
    if checkpoint is not None:
        print(
            f"goes on from {checkpoint.path}, written by {checkpoint.facts['world_size']} ranks,"
            f" at step {trainer.step} of {trainer.total_steps}",
            flush=True,
        )
        start["checkpoint"] = str(checkpoint.path)
    record_start(config.out, start)
    print(
        f"seed {seed}: {trainer.total_steps} steps of {config.batch_size} rows per arm;"
        f" {trainer.rows_dropped_per_epoch} rows of each epoch fill no batch and are left out",
        flush=True,
    )


def _evaluation_is_due(config: RunConfig, first_step: int, last_step: int) -> bool:
    """Whether a scheduled evaluation falls into a window."""
    every = config.eval_every
    return every is not None and last_step // every > first_step // every
