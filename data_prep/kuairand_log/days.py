"""KuaiRand day by day: each day is a data set of the split stream, which extends the one of the day before."""

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from data_prep.columns.arrays import Integers, one_chunk
from data_prep.columns.layout import Kind, dense_names
from data_prep.columns.periods import name_of, numbered
from data_prep.encoding.extending import Extended, Previous, UnseenBefore, begin_chain, extend_chain, read_previous
from data_prep.ids.counting import Span
from data_prep.ids.extension import span_of
from data_prep.kuairand_log.context import CLUSTER, KuaiRandContext
from data_prep.kuairand_log.counts import to_date
from data_prep.kuairand_log.day_files import DayFiles
from data_prep.kuairand_log.features import ImpressionEncoder, Tables
from data_prep.kuairand_log.learning import VIDEOS, Statistics
from data_prep.kuairand_log.options import TASKS, Options
from data_prep.kuairand_log.passes import Passes
from data_prep.kuairand_log.progress import with_progress
from data_prep.kuairand_log.raw_tables import check_history, discover, read_log
from data_prep.kuairand_log.reuse import newest_of, reuse
from data_prep.output.continued import Continued
from data_prep.output.writer import DatasetWriter
from dlrm_mtl.continuation import Period
from dlrm_mtl.location import Location
from dlrm_mtl.schema import STREAM, Schema, read_schema
from dlrm_mtl.storage.publishing import check_destination


def prepare_days(options: Options) -> Iterator[tuple[Path, Schema]]:
    """Writes a data set for each day that has rows; yields the directory and schema of each.

    Raises:
        ValueError: a file, column or value is not as expected, there are no rows, the data set before cannot be
            extended or is not of an earlier day, or the histories reach into the rows used.
    """
    options.validate()
    if (options.out / "schema.json").is_file():
        raise ValueError(f"{options.out}: is a data set, expected a directory for those of the days")
    files = discover(options.raw, options.include_random, options.log_labels)
    newest = options.history_length if files.history is not None else 0
    if options.extend is not None:
        reused, files = reuse(options.extend, options.out, files)
        newest = newest_of(reused.encoding)
        options = _after(read_schema(options.extend).period, options)
    tables = Tables.read(files)
    with DayFiles(options.out.with_name(f"{options.out.name}.partial")) as log:
        rows, days = 0, [1 << 40, -(1 << 40)]
        for impressions in with_progress(read_log(files.logs, options.log_labels), "read", None):
            if len(impressions):
                rows += len(impressions)
                days = [min(days[0], int(impressions.day.min())), max(days[1], int(impressions.day.max()))]
                log.write(impressions.select(options.of_days(impressions)))
        log.close()
        if not log.days:
            span = f"from {to_date(days[0])} to {to_date(days[1])}" if rows else "over no day"
            raise ValueError(
                f"{options.raw}: no row from train_from {options.train_from or 'the first day'} to eval_to"
                f" {options.eval_to or 'the last day'}; the log runs {span}"
            )
        check_history(files, tables.history, log.days[0])
        yield from _DayByDay(options, tables, files.names, newest).prepare(log, options.extend)


def _after(period: Period | None, options: Options) -> Options:
    """The options, by default from the first day after a period. Raises ValueError where they begin earlier."""
    if period is None:
        return options
    first = datetime.datetime.fromisoformat(period.stop).date()
    if options.train_from is not None and options.train_from < first:
        raise ValueError(
            f"train_from {options.train_from}: expected no day before {first}, where {options.extend} ends"
        )
    return replace(options, train_from=options.train_from or first)


@dataclass(frozen=True)
class _DayByDay:
    """Prepares the days of a log.

    Args:
        files: entry of the schema's source.
    """

    options: Options
    tables: Tables
    files: Sequence[str]
    newest: int
    """Ids kept of each history; 0: there are no histories."""

    def directory(self, day: int) -> Path:
        """Of the data set of a day (since 1970)."""
        return self.options.out / name_of(day, "day")

    def prepare(self, log: DayFiles, previous: Location | None) -> Iterator[tuple[Path, Schema]]:
        """Writes the days that the log has; yields the directory and schema of each.

        Args:
            previous: data set that the first one extends; None: the first one begins a chain.

        Raises:
            ValueError: a directory holds something that is no data set, or the data set before cannot be extended.
        """
        for day in log.days:
            check_destination(self.directory(day))
        for day in log.days:
            before = read_previous(previous, "kuairand", self.directory(day)) if previous is not None else None
            if before is not None and previous == self.options.extend:
                before = replace(before, growth=self.options.growth_after(before))
            previous = self.directory(day)
            yield previous, self._prepare(log, day, before)

    def _prepare(self, log: DayFiles, day: int, previous: Previous | None) -> Schema:
        tasks, statistics = TASKS[self.options.tasks], Statistics(self.tables)
        known = np.empty(0, np.int64) if previous is None else previous.clusters()
        context = KuaiRandContext(self.tables, self.options.segments, known)
        passes = Passes(tasks, self.tables, context, statistics)
        for impressions in log.read(day):
            passes.counts.read(impressions)
            passes.count(STREAM, impressions)
        extended = self._extend(statistics, previous)
        encoding, vocabularies = extended.encoding, extended.vocabulary_tables
        encoder, unseen_before = ImpressionEncoder(self.tables, encoding, vocabularies), UnseenBefore(extended)
        with DatasetWriter(
            self.directory(day),
            self.options.name,
            encoding.features,
            dense_names(encoding.dense),
            tasks,
            fingerprints=encoding.fingerprints,
            cluster=CLUSTER,
            segments=context.learnt(),
            splits=[STREAM],
        ) as writer:
            for impressions in log.read(day):
                rows = passes.encode(STREAM, impressions, encoder, encoding.features)
                unseen_before.add({name: one_chunk(rows[name]) for name in rows.column_names})
                writer.write(STREAM, rows)
            return writer.finish(
                source={
                    **self.options.origin(self.files),
                    "date": str(to_date(day)),
                    "history_length": self.newest,
                    **passes.counts.as_record(),
                    "dense_scaling": encoding.dense_scaling,
                    "chain": extended.as_record(),
                    "unseen_before": unseen_before.shares(),
                    **context.as_record(),
                },
                encoding=encoding,
                vocabularies=vocabularies,
                for_next=extended.for_next(context.clusters),
                period=numbered(day, "day"),
                continued=Continued.of(extended),
                scales={} if previous is None else previous.reused.label_scales(tasks, self.options.label_formulas),
            )

    def _extend(self, statistics: Statistics, previous: Previous | None) -> Extended:
        """The encoding of a day, by the values of its rows. A video that occurs in histories alone gets no id, as in
        other data sets, but keeps the one that it has."""
        encoding, counted = statistics.learn(self.newest)
        spans = {
            table: _span(counted[table]["value"], np.asarray(counted[table]["count"]), features[0].kind)
            for table, features in encoding.tables.items()
        }
        if previous is None:
            return begin_chain(encoding, spans, self.options.growth)
        watched = statistics.watched(self.newest)
        kept = watched[np.isin(watched, np.asarray(previous.vocabulary(VIDEOS).values))]
        videos, counts = (np.asarray(counted[VIDEOS][name]) for name in ("value", "count"))
        kept = np.setdiff1d(kept, videos)
        spans[VIDEOS] = _span(
            pa.chunked_array([videos, kept]), np.concatenate([counts, np.zeros_like(kept)]), "integer"
        )
        return extend_chain(previous, spans)


def _span(values: pa.ChunkedArray, counts: Integers, kind: Kind) -> Span:
    return span_of(one_chunk(values), counts, kind)
