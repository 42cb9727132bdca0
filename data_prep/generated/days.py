"""A generated log of days: each is a data set of the split stream, which extends the one of the day before."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.columns.layout import USER
from data_prep.encoding.encoder import Encoder
from data_prep.encoding.encoding import EncodedCategorical, EncodedDense, Encoding
from data_prep.encoding.extending import Extended, Growth, UnseenBefore, begin_chain, extend_chain, read_previous
from data_prep.generated.bayes_ne import BayesNEs
from data_prep.generated.change import ChangingTruth, Day
from data_prep.generated.columns import CHUNK_ROWS, SEGMENT, chunks, keys_of_users, tasks_of, to_table, with_context
from data_prep.generated.day_options import NAME, DayOptions, layout_of
from data_prep.generated.ground_truth import Distribution
from data_prep.ids.assignment import of_values
from data_prep.ids.counting import Span
from data_prep.ids.extension import span_of
from data_prep.ids.fingerprints import of_dense, of_hash, of_vocabulary
from data_prep.output.continued import Continued
from data_prep.output.raw_context import distinct_keys
from data_prep.output.writer import DatasetWriter
from dlrm_mtl.meaning import Fingerprints
from dlrm_mtl.quoting import quote
from dlrm_mtl.schema import STREAM, Schema, read_schema
from dlrm_mtl.storage.publishing import check_destination


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
                    f"{directory}: generated with {name} {quote(before)}, not {quote(value)}; give another directory"
                )
        return schema

    @cached_property
    def _truth(self) -> ChangingTruth:
        return ChangingTruth(self.distribution, self.options.change, self.seed)

    def _write(self, number: int, directory: Path) -> Schema:
        day, tasks = self._truth.on(number), tasks_of(self.distribution)
        extended = self._extend(day, directory)
        encoding = extended.encoding
        encoder = Encoder(
            encoding,
            encoding.assignments(lambda table: of_values(extended.vocabularies[table].values, "integer")),
        )
        unseen_before, bayes = UnseenBefore(extended), BayesNEs(tasks)
        has_users = self.distribution.users > 0
        known = seen = np.empty(0, np.int64) if extended.previous is None else extended.previous.clusters()
        with DatasetWriter(
            directory,
            NAME,
            encoding.features,
            [column.feature for column in encoding.dense],
            [task for task in tasks if self.options.task_times.has(task.name, self.options.period(number))],
            fingerprints=encoding.fingerprints,
            cluster=USER if has_users else "",
            segments=[SEGMENT] if has_users else [],
            splits=[STREAM],
        ) as writer:
            for chunk, size in chunks(self.rows):
                rows = day.rows(chunk, CHUNK_ROWS)
                raw = _as_read(to_table(rows, self.distribution, day.values).slice(0, size))
                columns = encoder.encode(raw)
                unseen_before.add(columns)
                table = pa.table({**columns, **{name: raw[name] for name in self.distribution.task_names}})
                if rows.users is not None:
                    keys = keys_of_users(rows.users[:size])
                    table = with_context(table, keys, known)
                    seen = np.union1d(seen, distinct_keys(keys))
                writer.write(STREAM, table)
                bayes.update(rows, size)
            return writer.finish(
                source={
                    **self.record,
                    "day": number,
                    "unseen_ids": dict(encoder.unseen),
                    "chain": extended.as_record(),
                    "unseen_before": unseen_before.shares(),
                    **bayes.nmse(),
                },
                bayes_ne=bayes.values(),
                encoding=encoding,
                vocabularies=extended.vocabulary_tables,
                for_next=extended.for_next(seen if has_users else None),
                period=self.options.period(number),
                continued=Continued.of(extended),
                scales=extended.previous.reused.label_scales(tasks, {}) if extended.previous is not None else {},
            )

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
        return begin_chain(encoding, spans, Growth(ids.least_count, capacities))

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


def _as_read(table: pa.Table) -> pa.Table:
    """The table with floating-point numbers in the type in which raw ones are read."""
    fields = [field.with_type(pa.float64()) if pa.types.is_floating(field.type) else field for field in table.schema]
    return table.cast(pa.schema(fields))
