"""Checkpoints of arms that are trained together: when they are written, their contents, and continuing from one."""

import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dlrm_mtl.distributed.checkpoint import Checkpoint, CheckpointWriter, find_checkpoint, open_checkpoint
from dlrm_mtl.distributed.checkpoint_directory import checkpoint_path, list_checkpoints
from dlrm_mtl.distributed.plan_records import describe_plan
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.quoting import quote
from dlrm_mtl.recipe import parse_recipe
from dlrm_mtl.training.session import ArmTrainer, Session
from dlrm_mtl.training.state.arm_state import State, generator_state, restore_generators
from dlrm_mtl.training.state.checkpoint_facts import check_facts
from dlrm_mtl.training.state.init_from import (
    GO_ON_ELSEWHERE,
    Start,
    check_meaning,
    fit_start,
    keep_label_units,
    source_arm,
)
from dlrm_mtl.training.trainer import DivergedError

DIRECTORY = "checkpoints"


class RunCheckpoints:
    """Every method but :meth:`due` is collective.

    Args:
        trainers: of the arms by name, all at the same step.
        directory: of the run or seed; checkpoints lie in its folder ``checkpoints``.
    """

    def __init__(self, session: Session, trainers: Mapping[str, ArmTrainer], directory: Path) -> None:
        self._session = session
        self._config = session.config.checkpoint
        self._ranks = session.ranks
        self._trainers = trainers
        self._directory = directory / DIRECTORY
        self._writer = CheckpointWriter(
            self._directory, self._config.keep, session.ranks, session.config.timeout_s, session.monitor.checkpoint
        )
        self._last_step = 0
        self._last_time = time.monotonic()

    def __enter__(self) -> "RunCheckpoints":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # After an error other ranks may have ended, and a pending checkpoint would wait for them.
        if error is None or isinstance(error, SystemExit | DivergedError):
            self._writer.close()

    def restore(self, start: Start | None = None) -> Checkpoint | None:
        """Loads the newest complete checkpoint into the trainers, or that of a start, or leaves them unchanged.

        Args:
            start: by default ``init_from``, if there is one.

        Returns:
            the checkpoint of this run from which training continues.

        Raises:
            ValueError: a checkpoint does not fit the run, or all are damaged.
        """
        checkpoint = find_checkpoint(self._directory, self._ranks)
        if checkpoint is None:
            if start := start or Start.of(self._session.config):
                self._start_from(start)
            return None
        check_facts(checkpoint.path, checkpoint.facts)
        arms = checkpoint.facts["arms"]
        if arms != list(self._trainers):
            raise ValueError(f"{checkpoint.path}: holds arms {', '.join(arms)}, expected {', '.join(self._trainers)}")
        dataset = self._session.source.dataset
        self._say(check_meaning(checkpoint.path, checkpoint.facts, dataset.directory, dataset.schema, GO_ON_ELSEWHERE))
        began = keep_label_units(checkpoint.path, checkpoint.facts, dataset.directory, dataset.schema)
        for task, before in zip(dataset.schema.tasks, began.tasks, strict=True):
            if task != before:
                raise ValueError(
                    f"{dataset.directory}: task {quote(task.name)} has mean {task.mean} and deviation {task.deviation},"
                    f" when the run began {before.mean} and {before.deviation}; {GO_ON_ELSEWHERE}"
                )
        for index, trainer in enumerate(self._trainers.values()):
            trainer.restore(str(index), checkpoint)
        restore_generators(checkpoint, self._ranks)
        self._last_step = checkpoint.step
        return checkpoint

    def due(self, step: int, last: bool = False) -> bool:
        """Whether to write a checkpoint now, by steps or by this rank's clock; ranks must agree on it. Also reports if
        the previous one has failed.

        Args:
            last: whether training ends here.
        """
        self._writer.report()
        steps, minutes = self._config.every_steps, self._config.every_minutes
        by_steps = steps is not None and step // steps > self._last_step // steps
        by_time = minutes is not None and time.monotonic() - self._last_time >= 60 * minutes
        return step > self._last_step and (last or by_steps or by_time)

    def save(self, facts: Mapping[str, Any]) -> None:
        """Starts to write a checkpoint.

        Args:
            facts: JSON values that :attr:`Checkpoint.facts` gives after a restart.
        """
        state: State = dict(generator_state(self._ranks))
        for index, trainer in enumerate(self._trainers.values()):
            state.update(trainer.state(str(index)))
        first = next(iter(self._trainers.values()))
        config, schema = self._session.config, self._session.source.dataset.schema
        self._writer.save(
            first.step,
            state,
            {
                "arms": list(self._trainers),
                "tasks": list(self._session.tasks),
                "world_size": self._ranks.world_size,
                "first_step": first.first_step,
                "position": first.position.as_json(),
                "plan": describe_plan(self._session.plan),
                "model": asdict(config.model),
                "bf16": config.bf16,
                "trained_on": asdict(schema.of_model),
                "meaning": schema.meaning.as_json(),
                **facts,
            },
        )
        self._last_step = first.step
        self._last_time = time.monotonic()

    def wait(self) -> None:
        """Waits until the pending checkpoint is written or has failed."""
        self._writer.wait()

    def _start_from(self, start: Start) -> None:
        path, dataset = start.checkpoint, self._session.source.dataset
        checkpoint = open_checkpoint(path, self._ranks)
        check_facts(path, checkpoint.facts)
        fit = fit_start(start, checkpoint.facts, dataset.directory, dataset.schema, list(self._trainers))
        self._say(fit.note)
        tasks, before = self._session.tasks, checkpoint.facts["tasks"]
        for name, trainer in self._trainers.items():
            source = source_arm(name, path, checkpoint.facts)
            mine, theirs = parse_recipe(name), parse_recipe(source)
            same_balancer = (mine.method, mine.level, mine.reduction) == (theirs.method, theirs.level, theirs.reduction)
            prefix = str(checkpoint.facts["arms"].index(source))
            anew = trainer.start_from(prefix, checkpoint, same_balancer, start.goes_on, fit.new_ids)
            if start.goes_on and set(tasks) == set(before):
                continue
            self._say(
                f"{name}: starts from {source} in {path}, step {checkpoint.step}."
                f" Tasks kept: {_names(task for task in tasks if task in before)};"
                f" new: {_names(task for task in tasks if task not in before)};"
                f" left out: {_names(task for task in before if task not in tasks)}."
                f" Initial weights: {_names(anew)}."
                f" Balancer state {'kept' if same_balancer else 'anew: another method'}."
            )
        if start.goes_on:
            restore_generators(checkpoint, self._ranks)
            self._last_step = checkpoint.step

    def _say(self, line: str | None) -> None:
        if line and self._ranks.is_first:
            print(line, file=sys.stderr, flush=True)


def require_checkpoint(directory: Path, step: int, ranks: Ranks) -> None:
    """Checks that a checkpoint has the models of a run or seed at a step, since training continues if writing one
    fails. Collective.

    Raises:
        ValueError: on every rank, if they are missing.
    """
    path = checkpoint_path(directory / DIRECTORY, step)
    if not ranks.broadcast(path.is_dir()):
        raise ValueError(
            f"{path}: not there, so the trained models cannot be kept (see above why it was not written); the same"
            " command goes on from the newest checkpoint"
        )


def has_checkpoint(directory: Path) -> bool:
    """Whether a run or seed has a checkpoint."""
    return bool(list_checkpoints(directory / DIRECTORY))


def remove_checkpoints(directory: Path, keep: int) -> None:
    """Removes the checkpoints of a finished run or seed except the newest ``keep``."""
    checkpoints = directory / DIRECTORY
    for path in list_checkpoints(checkpoints)[keep:] if keep else [checkpoints]:
        shutil.rmtree(path, ignore_errors=True)


def _names(tasks: Iterable[str]) -> str:
    return ", ".join(tasks) or "none"
