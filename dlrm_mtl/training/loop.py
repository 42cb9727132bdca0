"""The training loop for one arm, or several in turns; the same code for control and treatments."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from dlrm_mtl.distributed.checkpoint import Checkpoint
from dlrm_mtl.ending import Terminated
from dlrm_mtl.file_names import file_names
from dlrm_mtl.metrics.evaluation import Evaluation, EvaluationMetrics
from dlrm_mtl.run_config import RunConfig
from dlrm_mtl.run_directory import record_start
from dlrm_mtl.training.checkpoints import RunCheckpoints, require_checkpoint
from dlrm_mtl.training.evaluation_file import read_evaluations, write_evaluations
from dlrm_mtl.training.interruption import termination_requested
from dlrm_mtl.training.run_log import RunLog, progress_bar
from dlrm_mtl.training.session import ArmTrainer, Session
from dlrm_mtl.training.state.init_from import Start


@dataclass(frozen=True)
class ArmResult:
    """Results of one arm with one seed."""

    evaluation: EvaluationMetrics
    """Evaluation of the trained model on the eval split, or of the model before it was trained on the split stream."""
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
    training_s: float = 0.0
    """Seconds of all turns since the last start."""
    evaluation_s: float = 0.0
    """Seconds of the evaluation, if it was made since the last start."""


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

    Logs, one folder per arm, and checkpoints go to ``directory``; training continues from the newest checkpoint if
    there is one.

    Raises:
        Terminated: after a checkpoint, when a rank was told to end by SIGTERM.
    """
    with open_loop(session, arms, seed, directory) as loop:
        loop.train()
        evaluations = loop.evaluate()
        loop.log(evaluations)
        return loop.results(evaluations)


def train_period(
    session: Session, arms: Sequence[str], seed: int, directory: Path, start: Start | None
) -> dict[str, ArmResult]:
    """Evaluates arms of one seed on a data set of the split stream, then trains them on it, and writes a last
    checkpoint. Collective.

    The evaluation is kept in ``directory`` before training begins, so that a restart does not repeat it.

    Args:
        start: the checkpoint of the period before; None in the first one, whose evaluation has no rows.

    Raises:
        ValueError: the checkpoint is damaged or does not fit; the last checkpoint could not be written.
        Terminated: after a checkpoint, when a rank was told to end by SIGTERM.
    """
    ranks = session.ranks
    with open_loop(session, arms, seed, directory, start) as loop:
        evaluations = ranks.broadcast(ranks.run_on_all(lambda: read_evaluations(directory) if ranks.is_first else None))
        if evaluations is None:
            if loop.step > loop.first_step:
                raise ValueError(f"{directory}: has a checkpoint, but no evaluation.json, which is written before it")
            evaluated = loop.evaluate(rows=start is not None)
            ranks.run_on_all(lambda: write_evaluations(directory, evaluated) if ranks.is_first else None)
            # As after a restart: the file rounds.
            evaluations = ranks.broadcast(read_evaluations(directory) if ranks.is_first else None)
        assert evaluations is not None
        if start is not None and loop.step == loop.first_step:
            loop.log(evaluations)
        loop.train()
        results = loop.results(evaluations)
        last_step = loop.step
    require_checkpoint(directory, last_step, ranks)
    return results


class Loop:
    """Trains arms, which take turns of one window, so that the machine's noise affects all alike. Every method is
    collective.

    Args:
        trainers: by arm, all at the same step.
        requested: whether this rank was told to end.
    """

    def __init__(
        self,
        session: Session,
        trainers: Mapping[str, ArmTrainer],
        checkpoints: RunCheckpoints,
        progress: Progress,
        logs: Mapping[str, RunLog],
        bar: "tqdm[Any]",
        requested: Callable[[], bool],
    ) -> None:
        self._session = session
        self._trainers = trainers
        self._checkpoints = checkpoints
        self._progress = progress
        self._logs = logs
        self._bar = bar
        self._requested = requested
        self._one = next(iter(trainers.values()))
        # A restart has its own warm-up.
        self._warm = progress.rounds + session.config.warmup_windows
        self._training_s = dict.fromkeys(trainers, 0.0)
        self._evaluation_s = dict.fromkeys(trainers, 0.0)

    @property
    def first_step(self) -> int:
        return self._one.first_step

    @property
    def step(self) -> int:
        return self._one.step

    def train(self) -> None:
        """Trains to the end.

        Raises:
            Terminated: after a checkpoint, when a rank was told to end by SIGTERM.
        """
        one, progress, arms = self._one, self._progress, list(self._trainers)
        while not one.done:
            # Each arm goes first as often as last, so that what a turn leaves in caches favours none.
            rows = sum(self._train_window(arm) for arm in (arms if progress.rounds % 2 == 0 else reversed(arms)))
            progress.rounds += 1
            self._session.monitor.end_round(one.step, rows)
            due = self._checkpoints.due(one.step, last=one.done)
            ending, due = self._session.ranks.any(self._requested(), due)
            if ending or due:
                for log in self._logs.values():
                    log.sync()
                progress.log_bytes = {arm: log.bytes for arm, log in self._logs.items()}
                self._checkpoints.save({"progress": asdict(progress)})
            if ending:
                raise Terminated(f"at step {one.step} of {one.total_steps}")

    def evaluate(self, rows: bool = True) -> dict[str, Evaluation]:
        """The evaluation of each arm.

        Args:
            rows: False: as if the split had no row.

        Raises:
            Terminated: when a rank was told to end by SIGTERM.
        """
        evaluations = {}
        for arm, trainer in self._trainers.items():
            if self._session.ranks.any(self._requested())[0]:
                raise Terminated(f"before {arm} was evaluated, at step {self.step} of {self._one.total_steps}")
            start = time.perf_counter()
            evaluations[arm] = trainer.evaluate(rows)
            self._evaluation_s[arm] = time.perf_counter() - start
        return evaluations

    def log(self, evaluations: Mapping[str, EvaluationMetrics]) -> None:
        """Logs the evaluation of each arm."""
        for arm, evaluation in evaluations.items():
            self._logs[arm].evaluation(self.step, evaluation.tasks, evaluation.products)

    def results(self, evaluations: Mapping[str, EvaluationMetrics]) -> dict[str, ArmResult]:
        """The results of each arm."""
        progress = self._progress
        return {
            arm: ArmResult(
                evaluations[arm],
                progress.qps[arm],
                trainer.skipped_steps,
                trainer.rows_lost,
                progress.end_to_end_qps[arm],
                self._training_s[arm],
                self._evaluation_s[arm],
            )
            for arm, trainer in self._trainers.items()
        }

    def _train_window(self, arm: str) -> int:
        """Trains a window; its rows."""
        config, progress, trainer = self._session.config, self._progress, self._trainers[arm]
        start = time.perf_counter()
        window = trainer.train_window(config.log_every)
        self._logs[arm].window(window)
        self._bar.update(window.last_step - window.first_step)
        seconds = time.perf_counter() - start
        self._training_s[arm] += seconds
        if progress.rounds >= self._warm:
            progress.end_to_end_qps[arm].append(window.rows / seconds)
            if window.qps is not None:
                progress.qps[arm].append(window.qps)
        if _evaluation_is_due(config, window.first_step, window.last_step) and not trainer.done:
            self._logs[arm].evaluation(window.last_step, *trainer.evaluation_metrics())
        return window.rows


@contextmanager
def open_loop(
    session: Session, arms: Sequence[str], seed: int, directory: Path, start: Start | None = None
) -> Iterator[Loop]:
    """The loop of some arms, at the newest checkpoint in a directory, at a start, or at the beginning. Collective."""
    ranks = session.ranks
    torch.manual_seed(seed)  # torch's own generators, which are in every checkpoint, start at random
    trainers = {arm: session.trainer(arm, seed) for arm in arms}
    one = trainers[arms[0]]
    with ExitStack() as stack:
        for trainer in trainers.values():
            stack.enter_context(closing(trainer))
        requested = stack.enter_context(termination_requested())
        checkpoints = stack.enter_context(RunCheckpoints(session, trainers, directory))
        checkpoint = checkpoints.restore(start)
        progress = Progress.begin(arms)
        if checkpoint is not None:
            if checkpoint.facts.get("progress") is None:
                raise ValueError(f"{checkpoint.path}: progress is missing")
            progress = replace(progress, **checkpoint.facts["progress"])
        if ranks.is_first:
            _announce(one, session, seed, checkpoint)
        session.monitor.begin(seed, one.step, one.total_steps)
        logs = {}
        for arm, folder in file_names(arms).items():
            monitor = session.monitor.open_arm(arm, seed, directory / folder, one.step)
            log = RunLog(directory / folder, session.tasks, ranks.is_first, one.step, progress.log_bytes[arm], monitor)
            logs[arm] = stack.enter_context(log)
        total, done = (len(arms) * (step - one.first_step) for step in (one.total_steps, one.step))
        bar = stack.enter_context(progress_bar(total, f"seed {seed}", ranks.is_first, done))
        yield Loop(session, trainers, checkpoints, progress, logs, bar, requested)


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
    dropped = trainer.rows_dropped_per_epoch
    note = f"; {dropped} rows of each epoch fill no batch and are left out" if dropped else ""
    steps = trainer.total_steps - trainer.first_step
    print(f"seed {seed}: {steps} steps of {config.batch_size} rows per arm{note}", flush=True)


def _evaluation_is_due(config: RunConfig, first_step: int, last_step: int) -> bool:
    """Whether a scheduled evaluation falls into a window."""
    every = config.eval_every
    return every is not None and last_step // every > first_step // every
