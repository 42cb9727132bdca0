"""The days of a stream by their schemas, checked before any of them is trained on."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from dlrm_mtl.continuation import Period
from dlrm_mtl.file_names import file_names
from dlrm_mtl.location import Location, RemotePath
from dlrm_mtl.meaning import TableFingerprint
from dlrm_mtl.model_schema import Task
from dlrm_mtl.quoting import quote
from dlrm_mtl.run_config import StreamConfig
from dlrm_mtl.schema import STREAM, Schema, read_schema
from dlrm_mtl.task_times import TaskTimes
from dlrm_mtl.task_weights import share_weights


@dataclass(frozen=True)
class Day:
    """A day: the data set of a period."""

    number: int
    """Its place among the days, from 0."""
    data: Location
    schema: Schema
    """Of the tasks that exist on this day."""

    @property
    def name(self) -> str:
        """Name of its run directory: number, and name of the data set's directory."""
        directory = (self.data if isinstance(self.data, RemotePath) else Path(os.path.abspath(self.data))).name
        return f"{self.number:04}-{file_names([directory])[directory]}"

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.schema.task_names


def read_days(config: StreamConfig) -> tuple[Day, ...]:
    """The days of a stream.

    Raises:
        ValueError: days are out of order, overlap or stand twice; a day has another layout than the one before, or
            does not continue it; a task changes its meaning, is unknown, or a day has none. The message names the
            directory.
    """
    read = tuple(Day(number, data, read_schema(data)) for number, data in enumerate(config.data))
    for day in read:
        if STREAM not in day.schema.splits:
            raise ValueError(f"{day.data}: has the splits {', '.join(day.schema.splits)}, expected {STREAM} alone")
    _check_twice(read)
    for before, day in pairwise(read):
        _check_order(before, day)
        _check_layout(before, day)
        _check_continuation(before, day)
    _check_tasks(read)
    times = TaskTimes.of(config.task_begins, config.task_ends)
    names = list(dict.fromkeys(task for day in read for task in day.tasks))
    if unknown := sorted(times.tasks - set(names)):
        raise ValueError(
            f"task_begins and task_ends: task {quote(unknown[0])} is in none of the data sets, expected one of"
            f" {', '.join(map(quote, names))}"
        )
    share_weights(config.task_weights, names)
    return tuple(_restricted(day, times) for day in read)


def _check_twice(days: Sequence[Day]) -> None:
    places: dict[Location, Location] = {}
    for day in days:
        first = places.setdefault(day.data.resolve(), day.data)
        if first is not day.data:
            raise ValueError(f"{day.data}: is also given as {first}, expected each day once")


def _check_order(before: Day, day: Day) -> None:
    earlier, period = before.schema.period, day.schema.period
    if earlier is None and period is None:
        return  # what it continues tells the order
    if earlier is None or period is None:
        without, other = (before, day) if earlier is None else (day, before)
        raise ValueError(f"{without.data}: has no period, expected one, as {other.data} has")
    try:
        in_order = earlier.is_before(period)
    except ValueError as error:
        raise ValueError(f"{day.data}: {error}") from None
    if not in_order:
        what = "is out of order" if period.is_before(earlier) else "overlaps with the day before"
        raise ValueError(
            f"{day.data}: {what}: its period is {period}, that of {before.data} is {earlier}; expected a start at"
            f" {earlier.stop} or later"
        )


def _check_layout(before: Day, day: Day) -> None:
    """Features, tables' kinds, dense values and clusters."""
    for what, old, new in zip(
        ("categorical features and tables", "dense features", "clusters", "tables", "dense values"),
        _layout(before.schema),
        _layout(day.schema),
        strict=True,
    ):
        if old != new:
            different = next((pair for pair in zip(old, new, strict=False) if pair[0] != pair[1]), (old, new))
            raise ValueError(
                f"{day.data}: has other {what} than {before.data}: {quote(different[1])}, expected"
                f" {quote(different[0])}"
            )


def _layout(schema: Schema) -> tuple[Sequence[object], ...]:
    features = [(feature.name, feature.table_name, feature.multi_hot) for feature in schema.categorical]
    meaning = schema.meaning
    tables = [f"{table}: {_kind(fingerprint)}" for table, fingerprint in meaning.tables.items()]
    dense = [f"{name}: {fingerprint}" for name, fingerprint in meaning.dense.items()]
    return features, schema.dense, [schema.cluster], tables, dense


def _kind(fingerprint: TableFingerprint) -> str:
    """A table's fingerprint; of a vocabulary, which may grow, its method."""
    return fingerprint.method if fingerprint.method == "vocabulary" else str(fingerprint)


def _check_continuation(before: Day, day: Day) -> None:
    continues = day.schema.continues
    expected = f"expected a data set that was prepared with --extend {before.data}"
    if continues is None:
        raise ValueError(f"{day.data}: continues no data set, {expected}")
    if continues.data_set != before.schema.name:
        raise ValueError(
            f"{day.data}: continues data set {quote(continues.data_set)}, not {quote(before.schema.name)}, {expected}"
        )
    for table, fingerprint in before.schema.fingerprints.tables.items():
        continued = continues.tables.get(table)
        if continued != fingerprint:
            raise ValueError(
                f"{day.data}: continues a data set whose table {quote(table)} is {continued or 'missing'}, in"
                f" {before.data} it is {fingerprint}; {expected}"
            )


def _check_tasks(days: Sequence[Day]) -> None:
    """Whether a task is the same on every day that has it."""
    firsts: dict[str, tuple[Task, Day]] = {}
    for day in days:
        for task in day.schema.tasks:
            first, of_day = firsts.setdefault(task.name, (task, day))
            for option in ("label", "given", "through", "kind", "unit"):
                old, new = getattr(first, option), getattr(task, option)
                if old != new:
                    raise ValueError(
                        f"{day.data}: task {quote(task.name)} has {option} {quote(new)}, expected {quote(old)}, as in"
                        f" {of_day.data}; give a task of another meaning another name"
                    )


def _restricted(day: Day, times: TaskTimes) -> Day:
    """The day with the tasks that exist then."""
    tasks = tuple(task for task in day.schema.tasks if _exists(task, day, times))
    if not tasks:
        of_data = ", ".join(map(quote, day.tasks))
        raise ValueError(f"{day.data}: no task is left by task_begins and task_ends, expected one of {of_data}")
    return replace(day, schema=replace(day.schema, tasks=tasks))


def _exists(task: Task, day: Day, times: TaskTimes) -> bool:
    if task.name not in times.tasks:
        return True
    period: Period | None = day.schema.period
    if period is None:
        raise ValueError(f"{day.data}: has no period, expected one, since task {quote(task.name)} begins or ends")
    try:
        return times.has(task.name, period)
    except ValueError as error:
        raise ValueError(f"{day.data}: {error}") from None
