"""The loop over the days of a stream."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dlrm_mtl.arms import check_arm
from dlrm_mtl.data.context import Context
from dlrm_mtl.distributed.checkpoint_directory import list_checkpoints
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.ending import Terminated
from dlrm_mtl.funnels import products
from dlrm_mtl.monitoring.monitor import Monitor
from dlrm_mtl.quoting import quote
from dlrm_mtl.recipe import Recipe, parse_recipe
from dlrm_mtl.reporting.run_results import seed_file, write_comparison, write_seed
from dlrm_mtl.reporting.streams.day_file import Seconds, write_day
from dlrm_mtl.reporting.streams.stream_file import StreamResults
from dlrm_mtl.run_config import CompareConfig, StreamConfig
from dlrm_mtl.schema import STREAM, Schema
from dlrm_mtl.serving.publishing import publish
from dlrm_mtl.streaming.days import Day, read_days
from dlrm_mtl.streaming.states import OverDay, begin_day, day_directory, open_stream
from dlrm_mtl.training.checkpoints import DIRECTORY, remove_checkpoints
from dlrm_mtl.training.evaluation_file import remove_evaluations
from dlrm_mtl.training.interruption import termination_requested
from dlrm_mtl.training.loop import ArmResult, train_period
from dlrm_mtl.training.run_data import BadDataError
from dlrm_mtl.training.session import prepare
from dlrm_mtl.training.state.init_from import Start
from dlrm_mtl.training.trainer import DivergedError
from dlrm_mtl.training_length import TrainingLength

PUBLISHED = "published"
"""Folder of the publications in a run directory."""


def run_stream(config: StreamConfig, ranks: Ranks, monitor: Monitor | None = None) -> None:
    """Evaluates and trains the arms day by day, from every seed, and goes on where an earlier start ended. Collective.

    Raises:
        ValueError: on every rank: see :func:`read_days`, :func:`open_stream` and
            :func:`dlrm_mtl.training.session.prepare`; a bad day, unless bad days are skipped; every day was skipped.
        Terminated: when a rank was told to end by SIGTERM.
    """
    days = ranks.run_on_all(lambda: _checked_days(config, ranks.world_size))
    over = ranks.broadcast(ranks.run_on_all(lambda: open_stream(config, days) if ranks.is_first else {}))
    results = StreamResults(config.out) if ranks.is_first else None
    with termination_requested() as requested:
        stream = _Stream(config, days, ranks, dict(over), results, requested, monitor or Monitor())
        for day in days:
            stream.train(day)
    if stream.last_trained(len(days)) is None:
        raise ValueError(f"{config.out}: every day was skipped: {stream.over[0].skipped}")


def _checked_days(config: StreamConfig, world_size: int) -> tuple[Day, ...]:
    config.local_batch_size(world_size)
    days = read_days(config)
    arms = [parse_recipe(arm) for arm in config.arms]
    for day in days:
        Context.of(day.schema, config.segments)
        for arm in arms:
            _check_arm(arm, day, days[0])
    return days


def _check_arm(arm: Recipe, day: Day, first: Day) -> None:
    """Raises a ValueError for an arm that cannot be built for a day, or that has numbers for tasks by their positions,
    which differ from those of the first day."""
    try:
        check_arm(arm, day.tasks)
    except ValueError as error:
        raise ValueError(f"{day.data}: {error}") from None
    if any(isinstance(value, list) for value in arm.options.values()) and day.tasks != first.tasks:
        raise ValueError(
            f"{day.data}: arm {quote(arm.text)} has numbers by the position of tasks, which are {', '.join(day.tasks)},"
            f" in {first.data} {', '.join(first.tasks)}; expected numbers by name, TASK:NUMBER/TASK:NUMBER"
        )


@dataclass
class _Stream:
    config: StreamConfig
    days: Sequence[Day]
    ranks: Ranks
    over: dict[int, OverDay]
    """By number."""
    results: StreamResults | None
    """On rank 0."""
    requested: Callable[[], bool]
    """Whether this rank was told to end."""
    monitor: Monitor

    def train(self, day: Day) -> None:
        """Evaluates and trains a day, unless it is over."""
        if state := self.over.get(day.number):
            skipped = f"skipped before, and stays so, even if it is repaired: {state.skipped}"
            self._say(f"day {day.name}: {skipped if state.skipped else 'trained before'}")
            return
        before = self.last_trained(day.number)
        try:
            evaluated, seconds = self._train_seeds(day, before)
        except (BadDataError, DivergedError) as error:
            if self.config.on_bad_day == "stop":
                raise
            self._say(f"day {day.name}: SKIPPED: {error}")
            self._end(day, skipped=str(error))
            self._remove_models(day)
            return
        self._end(day, evaluated=evaluated, seconds=seconds)
        if before is not None and not self.config.keep_models:
            self._remove_models(self.days[before])

    def last_trained(self, before: int) -> int | None:
        """Number of the last day that was trained on, before a day; None: there is none."""
        trained = (number for number, day in self.over.items() if day.skipped is None)
        return max((number for number in trained if number < before), default=None)

    def _train_seeds(self, day: Day, before: int | None) -> tuple[tuple[str, ...], Seconds | None]:
        """Evaluates and trains a day from the seeds that are not finished.

        Returns:
            the tasks that were evaluated, and the seconds of all arms and seeds; None if an earlier start trained some.

        Raises:
            BadDataError, DivergedError: on every rank.
        """
        ranks, config = self.ranks, self._config_of(day)
        self.monitor.place(day={"name": day.name, "number": day.number + 1, "of": len(self.days)})
        starts = {seed: self._start(day, before, seed) for seed in config.own_seeds}
        given = [start for start in starts.values() if start]
        session = prepare(config, config.arms, ranks, (STREAM,), given, day.tasks, self.monitor)
        if ranks.is_first:
            begin_day(config.out, day)
        evaluated = () if before is None else _evaluated_tasks(day, self.over[before])
        # Without any task that is evaluated, the results are those of the training.
        measured = _with_tasks(day.schema, evaluated or day.tasks)
        resumed = ranks.broadcast((config.out / f"seed-{config.first_seed}").exists())
        evaluation_s = training_s = 0.0
        finished = ranks.broadcast([seed for seed in starts if seed_file(config.out, seed).is_file()])
        for seed, start in starts.items():
            if seed in finished:
                self._say(f"day {day.name}, seed {seed}: finished before, taken from {seed_file(config.out, seed)}")
                continue
            if ranks.any(self.requested())[0]:
                raise Terminated(f"before day {day.name}, seed {seed}")
            began_seed, directory = time.monotonic(), config.out / f"seed-{seed}"
            results = train_period(session, config.arms, seed, directory, start)
            evaluation_s += sum(result.evaluation_s for result in results.values())
            training_s += sum(result.training_s for result in results.values())
            if ranks.is_first:
                part = {arm: _of_tasks(result, day.tasks, measured) for arm, result in results.items()}
                write_seed(config.out, measured, session.length, seed, part)
                remove_checkpoints(directory, keep=1)
                remove_evaluations(directory)
                self._say(_progress(day, seed, results[config.arms[0]], session.length, time.monotonic() - began_seed))
        if ranks.is_first and evaluated:
            write_comparison(self._config_of(day, measured.task_names), measured)
        if self.config.publish is not None:
            self._publish(day, self.config.publish)
        return evaluated, None if resumed else Seconds(evaluation_s, training_s)

    def _publish(self, day: Day, arm: str) -> None:
        """Exports an arm's model of the first seed."""
        model = self._model(day, self._config_of(day).first_seed)
        place = self.config.out / PUBLISHED / day.name

        def publish_once() -> None:
            publication = publish(model, arm, day.data, place, self.config.every) if self.ranks.is_first else None
            if publication is not None:
                self._say(f"day {day.name}: published {publication}")

        self.ranks.run_on_all(publish_once)

    def _config_of(self, day: Day, tasks: Collection[str] | None = None) -> CompareConfig:
        """The run of a day.

        Args:
            tasks: that have weights; by default all of the day.
        """
        return self.config.day(day.data, day_directory(self.config.out, day), tasks or day.tasks)

    def _start(self, day: Day, before: int | None, seed: int) -> Start | None:
        """The models of the last day that was trained, and the days that were skipped since."""
        if before is None:
            return None
        skipped = tuple((each.data, each.schema) for each in self.days[before + 1 : day.number])
        return Start(self._model(self.days[before], seed), goes_on=True, skipped=skipped)

    def _model(self, day: Day, seed: int) -> Path:
        """The last checkpoint of a day. Collective."""

        def newest() -> Path:
            directory = day_directory(self.config.out, day) / f"seed-{seed}" / DIRECTORY
            if checkpoints := list_checkpoints(directory):
                return checkpoints[0]
            raise ValueError(f"{directory}: holds no checkpoint, expected the models after day {day.name}")

        return self.ranks.broadcast(self.ranks.run_on_all(newest))

    def _remove_models(self, day: Day) -> None:
        if self.ranks.is_first:
            for seed in self._config_of(day).own_seeds:
                remove_checkpoints(day_directory(self.config.out, day) / f"seed-{seed}", keep=0)

    def _end(self, day: Day, skipped: str | None = None, **facts: Any) -> None:
        """Notes that a day is over."""
        self.over[day.number] = OverDay(day.tasks, skipped)
        if self.results is not None:
            directory = day_directory(self.config.out, day)
            directory.mkdir(parents=True, exist_ok=True)
            write_day(directory, day.schema, skipped=skipped, **facts)
            self.results.write()

    def _say(self, line: str) -> None:
        if self.ranks.is_first:
            print(line, flush=True)


def _evaluated_tasks(day: Day, before: OverDay) -> tuple[str, ...]:
    """The tasks that models have before a day, and whose NE is defined on it."""
    return tuple(task.name for task in day.schema.tasks if task.name in before.tasks and task.labels_differ)


def _with_tasks(schema: Schema, tasks: Collection[str]) -> Schema:
    return replace(schema, tasks=tuple(task for task in schema.tasks if task.name in tasks))


def _of_tasks(result: ArmResult, tasks: Sequence[str], measured: Schema) -> ArmResult:
    """A result with the evaluation of some of the tasks."""
    positions = [tasks.index(task) for task in measured.task_names]
    return replace(result, evaluation=result.evaluation.of_tasks(positions, products(measured.tasks)))


def _progress(day: Day, seed: int, control: ArmResult, length: TrainingLength, seconds: float) -> str:
    """What rank 0 prints of a seed: the control's NE or NMSE before training, and the training."""
    of_tasks = zip(day.tasks, control.evaluation.tasks, strict=True)
    losses = {task: metrics.normalized_loss for task, metrics in of_tasks}
    measured = ", ".join(f"{task} {loss:.4f}" for task, loss in losses.items() if loss is not None)
    return (
        f"day {day.name}, seed {seed}: loss before training {measured or 'not measured'}; {length.rows:,} rows,"
        f" {length.steps:,} steps, {seconds:.1f} s"
    )
