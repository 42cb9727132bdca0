"""A generated log of days: each is a data set of the split stream, which extends the one of the day before."""

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import tyro

from data_prep.columns.layout import USER, CategoricalColumn, DenseColumn, LabelColumn, Layout
from data_prep.encoding.chain import Extended, Growth, begin_chain, extend_chain, read_previous
from data_prep.encoding.encoder import Encoder
from data_prep.encoding.encoding import EncodedCategorical, EncodedDense, Encoding
from data_prep.engine.options import IdOptions
from data_prep.generated.bayes_ne import BayesNEs
from data_prep.generated.change import Change, ChangingTruth, Day
from data_prep.generated.columns import CHUNK_ROWS, SEGMENT, chunks, tasks_of, to_table, with_context
from data_prep.generated.ground_truth import Distribution
from data_prep.ids.assignment import of_values
from data_prep.ids.counting import Span
from data_prep.ids.extension import span_of
from data_prep.ids.fingerprints import of_dense, of_hash, of_vocabulary
from data_prep.output.continued import Continued
from data_prep.output.writer import DatasetWriter, check_destination
from dlrm_mtl.continuation import Period
from dlrm_mtl.meaning import Fingerprints
from dlrm_mtl.quoting import quote
from dlrm_mtl.schema import STREAM, Schema, Task, read_schema
from dlrm_mtl.task_dates import TaskDates

NAME = "synthetic"
"""Name of the data sets."""


@dataclass(frozen=True)
class DayOptions:
    """Options of a log of days."""

    days: int = 0
    """Days of a log: OUT/2024-01-01, ... are data sets of --rows rows each, for dlrm_mtl.stream. Days that are there
    already are kept, so that a larger number adds days. 0: one data set to train and evaluate on."""
    first_day: datetime.date = datetime.date(2024, 1, 1)
    """Date of the first day."""
    task_begins: tuple[str, ...] = ()
    """First days of tasks that do not exist from the beginning: like=2024-01-10."""
    task_ends: tuple[str, ...] = ()
    """Last days of tasks that do not exist to the end: like=2024-01-20."""
    ids: Literal["vocabulary", "hash"] = "vocabulary"
    """vocabulary: every day adds its new values, up to max_ids; then new values take the ids of those not seen for the
    longest time. hash: tables of max_ids."""
    min_count: int = 1
    """vocabulary: a value needs at least so many occurrences for an id of its own."""
    max_ids: int = 0
    """Maximum number of each table's ids, reserved ones included; 0: no maximum."""
    table_max_ids: dict[str, int] = field(default_factory=dict)
    """max_ids of single tables, by name: id_1 2000 list_0 1000."""
    change: Annotated[Change, tyro.conf.arg(name="")] = field(default_factory=Change)

    def validate(self, distribution: Distribution) -> None:
        """Raises ValueError where an option is out of its range, or given without days."""
        if self.days < 0:
            raise ValueError(f"days {self.days}: expected at least 0")
        if not self.days:
            default = DayOptions()
            for some, usual in ((self, default), (self.change, default.change)):
                for option in fields(some):  # type: ignore[arg-type]
                    if option.name != "change" and getattr(some, option.name) != getattr(usual, option.name):
                        raise ValueError(f"{option.name} {quote(getattr(some, option.name))}: is of logs of days; give --days")
            return
        self.change.validate(distribution)
        self.id_options.validate(layout_of(distribution))
        dates = self.task_dates(distribution)
        for number in range(self.days):
            if not any(dates.exists_on(task, self.date(number)) for task in distribution.task_names):
                raise ValueError(f"task_begins, task_ends: no task on {self.date(number)}, expected one on every day")

    def date(self, number: int) -> datetime.date:
        """The date of a day, counted from 0."""
        return self.first_day + datetime.timedelta(days=number)

    def task_dates(self, distribution: Distribution) -> TaskDates:
        return TaskDates.parse(self.task_begins, self.task_ends, distribution.task_names)

    @property
    def id_options(self) -> IdOptions:
        return IdOptions(self.ids, self.min_count, self.max_ids, self.table_max_ids)

    def as_record(self) -> dict[str, Any]:
        """Entries of the schema's source, in the types of JSON: what all days of a log have in common."""
        names = ("task_begins", "task_ends", "ids", "min_count", "max_ids", "table_max_ids")
        record = {"first_day": str(self.first_day), **{name: getattr(self, name) for name in names}}
        return {name: _as_json(value) for name, value in {**record, "change": asdict(self.change)}.items()}


@dataclass(frozen=True)
class DayLog:
    """A log of days.

    Args:
        rows: of each day.
        record: entries of the schema's source that all days have in common.
    """

    out: Path
    options: DayOptions
    distribution: Distribution
    seed: int
    rows: int
    record: Mapping[str, Any]

    def generate(self) -> Iterator[tuple[Path, Schema]]:
        """Writes the days that are not there yet; yields each day's directory and schema.

        Raises:
            ValueError: a day is there that was generated with other options, or a directory holds something that is no
                data set.
        """
        directories = [self.out / str(self.options.date(number)) for number in range(self.options.days)]
        finished = [self._finished(directory) for directory in directories]
        for number, (directory, schema) in enumerate(zip(directories, finished, strict=True)):
            yield directory, schema or self._write(number, directory)

    def _finished(self, directory: Path) -> Schema | None:
        check_destination(directory)
        if not (directory / "schema.json").is_file():
            return None
        schema = read_schema(directory)
        for name, value in self.record.items():
            if (before := schema.source.get(name)) != value:
                raise ValueError(
                    f"{directory}: {name} was {quote(before)}, and is {quote(value)} now; generate another log elsewhere"
                )
        return schema

    @cached_property
    def _truth(self) -> ChangingTruth:
        return ChangingTruth(self.distribution, self.options.change, self.seed)

    def _write(self, number: int, directory: Path) -> Schema:
        day, date = self._truth.on(number), self.options.date(number)
        extended = self._extend(day, directory)
        encoding = extended.encoding
        encoder = Encoder(
            encoding,
            encoding.assignments(lambda table: of_values(extended.vocabularies[table].values, "integer")),
        )
        seen = self._truth.users_before(number, self.rows, CHUNK_ROWS)
        has_users = self.distribution.users > 0
        bayes = BayesNEs(tasks_of(self.distribution))
        with DatasetWriter(
            directory,
            NAME,
            encoding.features,
            [column.feature for column in encoding.dense],
            self._tasks_on(date),
            fingerprints=encoding.fingerprints,
            cluster=USER if has_users else "",
            segments=[SEGMENT] if has_users else [],
            splits=[STREAM],
        ) as writer:
            for chunk, size in chunks(self.rows):
                rows = day.rows(chunk, CHUNK_ROWS)
                raw = to_table(rows, self.distribution, day.values).slice(0, size)
                table = pa.table({**encoder.encode(raw), **{name: raw[name] for name in self.distribution.task_names}})
                if rows.users is not None:
                    table = with_context(table, rows.users[:size], seen)
                writer.write(STREAM, table)
                bayes.update(rows, size)
            return writer.finish(
                source={**self.record, "day": number, "unseen_ids": dict(encoder.unseen), "chain": extended.as_record()},
                bayes_ne=bayes.values(),
                encoding=encoding,
                vocabularies=extended.vocabulary_tables,
                waiting=extended.waiting_tables,
                period=Period(f"{date}T00:00:00", f"{self.options.date(number + 1)}T00:00:00"),
                continued=extended.continued,
            )

    def _tasks_on(self, date: datetime.date) -> list[Task]:
        dates = self.options.task_dates(self.distribution)
        return [task for task in tasks_of(self.distribution) if dates.exists_on(task.name, date)]

    def _extend(self, day: Day, directory: Path) -> Extended:
        """The encoding of a day, by the values of its rows."""
        spans = self._count(day) if self.options.ids == "vocabulary" else {}
        if day.number:
            before = self.out / str(self.options.date(day.number - 1))
            return extend_chain(read_previous(before, "log", directory), spans)
        layout, ids = layout_of(self.distribution), self.options.id_options
        capacities = {table: ids.cap(layout, table) for table in layout.tables}
        none = of_vocabulary(pa.chunked_array([], pa.int64()))
        tables = {
            table: none if ids.ids == "vocabulary" else of_hash("integer", size) for table, size in capacities.items()
        }
        encoding = Encoding(
            "log",
            tuple(EncodedCategorical(**asdict(column)) for column in layout.categorical),
            tuple(EncodedDense(**asdict(column)) for column in layout.dense),
            Fingerprints(tables, {column.feature: of_dense(column) for column in layout.dense}),
        )
        return begin_chain(encoding, spans, Growth(ids.min_count, capacities))

    def _count(self, day: Day) -> dict[str, Span]:
        """How often each feature's values occur."""
        counts = [np.zeros(len(values), np.int64) for values in day.values]
        for chunk, size in chunks(self.rows):
            rows = day.rows(chunk, CHUNK_ROWS)
            ids = [ids[:size] for ids in rows.one_hot] + [ids[: offsets[size]] for offsets, ids in rows.multi_hot]
            for of_feature, some in zip(counts, ids, strict=True):
                of_feature += np.bincount(some, minlength=len(of_feature))
        return {
            name: span_of(pa.array(values[of_feature > 0]), of_feature[of_feature > 0], "integer")
            for name, values, of_feature in zip(self.distribution.feature_names, day.values, counts, strict=True)
        }


def layout_of(distribution: Distribution) -> Layout:
    """The columns of a generated log."""
    one_hot = len(distribution.cardinalities)
    return Layout(
        NAME,
        tuple(
            CategoricalColumn(name, "integer", multi_hot=number >= one_hot)
            for number, name in enumerate(distribution.feature_names)
        ),
        tuple(LabelColumn(name) for name in distribution.task_names),
        tuple(tasks_of(distribution)),
        tuple(DenseColumn(f"dense_{i}", mark_missing=False) for i in range(distribution.dense)),
    )


def _as_json(value: Any) -> Any:
    """Lists, as JSON reads them back."""
    if isinstance(value, dict):
        return {name: _as_json(item) for name, item in value.items()}
    return list(value) if isinstance(value, tuple) else value
