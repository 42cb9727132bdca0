"""``python -m data_prep.kuairand``: the raw KuaiRand files (Pure, 1K, 27K or a slice) as a data set.

Two passes over the log: the first learns the encoders from training rows, the second encodes. Memory holds the user
and video tables, the vocabularies and one batch of the log.
"""

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from data_prep.columns.days import day_number
from data_prep.columns.layout import dense_names
from data_prep.encoding.encoding import Encoding
from data_prep.encoding.reuse import ReusedEncoding
from data_prep.engine.options import refuse_changed
from data_prep.kuairand_log.context import CLUSTER, SEGMENTS, KuaiRandContext
from data_prep.kuairand_log.counts import (
    LABEL_SOURCES,
    Counts,
    count_ids,
    count_joins,
    count_labels,
    derive_labels,
    labels_of,
    report,
    to_date,
)
from data_prep.kuairand_log.features import ImpressionEncoder, Tables
from data_prep.kuairand_log.learning import Statistics
from data_prep.kuairand_log.raw_tables import (
    Impressions,
    RawFiles,
    discover,
    last_day,
    read_history,
    read_log,
    read_users,
    read_videos,
)
from data_prep.kuairand_log.reuse import reuse, vocabularies_of
from data_prep.output.summary import summary
from data_prep.output.writer import DatasetWriter, check_destination
from dlrm_mtl import cli
from dlrm_mtl.model_schema import Task
from dlrm_mtl.quoting import quote
from dlrm_mtl.schema import Schema

TASKS = {
    "feeds": tuple(Task(name, name) for name in ("click", "long_view", "like", "profile_enter", "comment")),
    "ads": (Task("ctr", "click"), Task("cvr", "long_view", given="click"), Task("conv_imp", "click_long_view")),
}
"""Task sets."""


@dataclass(frozen=True)
class Options:
    """Prepares KuaiRand: joins log, users and videos, splits by date, assigns ids from training rows."""

    raw: Path
    """Directory of the raw files: log_standard_*.csv, user_features_*.csv, video_features_basic_*.csv, each plain,
    .gz or .zst, and user_history_to_*.parquet where there is one."""
    out: Path
    """Directory of the data set; an existing data set is replaced."""
    tasks: Literal["feeds", "ads"]
    """feeds: click, long_view, like, profile_enter, comment. ads: ctr, cvr given click, conv_imp."""
    eval_from: datetime.date = datetime.date(2022, 5, 4)
    """First day of evaluation; training ends the day before."""
    train_from: datetime.date | None = None
    """First day of training; by default the log's first."""
    eval_to: datetime.date | None = None
    """Last day of evaluation; by default the log's last."""
    include_random: bool = False
    """Use the log of randomly exposed videos (log_random_*.csv) as well."""
    history_length: int = 50
    """Number of newest ids kept of each history of a user."""
    min_count: int = 1
    """A value needs at least so many occurrences in training rows for an id of its own; rarer ones share the id of
    unseen values, which is then trained."""
    segments: tuple[str, ...] = ()
    """Columns whose values divide the evaluation rows, beside their day and whether their user has training rows: hour,
    tab, duration_bucket, or categorical columns of the user or video table. The cluster is user_id."""
    encoding: Path | None = None
    """Data set whose encoding is used: its features, vocabularies, means and deviations, so that its models fit these
    rows. By default they are learnt."""

    def validate(self) -> None:
        """Raises ValueError where options are out of range or contradict each other."""
        if self.encoding is not None:
            refuse_changed(self, Options, "history_length", "min_count")
        for name in ("history_length", "min_count"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected at least 1")
        for name in self.segments:
            if name not in SEGMENTS:
                raise ValueError(f"segments: no column {quote(name)}; expected {', '.join(SEGMENTS)}")
            if self.segments.count(name) > 1:
                raise ValueError(f"segments: {name!r} is named twice")
        if self.train_from is not None and self.train_from >= self.eval_from:
            raise ValueError(f"train_from {self.train_from}: expected a day before eval_from {self.eval_from}")
        if self.eval_to is not None and self.eval_to < self.eval_from:
            raise ValueError(f"eval_to {self.eval_to}: expected no day before eval_from {self.eval_from}")

    def split(self, impressions: Impressions) -> dict[str, "np.ndarray"]:
        """Mask (B,) of the rows of each split."""
        boundary = day_number(self.eval_from)
        train = impressions.day < boundary
        evaluation = impressions.day >= boundary
        if self.train_from is not None:
            train &= impressions.day >= day_number(self.train_from)
        if self.eval_to is not None:
            evaluation &= impressions.day <= day_number(self.eval_to)
        return {"train": train, "eval": evaluation}


def prepare(options: Options) -> Schema:
    """Writes the data set.

    Raises:
        ValueError: a file, column or value is not as expected; a split is empty or a task has one class.
    """
    options.validate()
    check_destination(options.out)
    tasks = TASKS[options.tasks]
    log_labels = sorted({column for label in labels_of(tasks) for column in LABEL_SOURCES[label]})
    files = discover(options.raw, options.include_random, log_labels)
    reused = None
    if options.encoding is not None:
        reused, files = reuse(options.encoding, options.out, files)
    tables = Tables(
        read_users(files.users),
        read_videos(files.videos),
        read_history(files.history) if files.history is not None else None,
    )
    context = KuaiRandContext(tables, options.segments)
    statistics = Statistics(tables)
    counts = count(options, files, tables, log_labels, context, statistics if reused is None else None)
    encoding, vocabularies = (
        statistics.learn(options.history_length, options.min_count)
        if reused is None
        else (reused.encoding, vocabularies_of(reused))
    )
    encoder = ImpressionEncoder(tables, encoding, vocabularies)
    name = f"kuairand-{options.tasks}"
    with DatasetWriter(
        options.out,
        name,
        encoding.features,
        dense_names(encoding.dense),
        tasks,
        fingerprints=encoding.fingerprints,
        cluster=CLUSTER,
        segments=context.learnt(),
    ) as writer:
        for impressions in progress(read_log(files.logs, log_labels), "encode", counts.rows_read):
            for split, mask in options.split(impressions).items():
                selected = impressions.select(mask)
                columns = encoder.encode(selected)
                count_ids(columns, encoding.features, counts, split)
                columns |= {name: pa.array(values) for name, values in derive_labels(selected, tasks).items()}
                if split == "eval":
                    columns |= context.columns(selected)
                writer.write(split, pa.table(columns))
        described = {**source(options, files, counts, encoding, reused), **context.as_record()}
        return writer.finish(described, encoding=encoding, vocabularies=vocabularies)


def count(
    options: Options,
    files: RawFiles,
    tables: Tables,
    log_labels: Sequence[str],
    context: KuaiRandContext,
    statistics: Statistics | None,
) -> Counts:
    """The first pass. The context learns from it, and so do the statistics, if there are any.

    Raises:
        ValueError: a split is empty, a task has one class only among the training rows, or the histories reach
            into the rows used.
    """
    counts = Counts()
    first_used = 1 << 40
    for impressions in progress(read_log(files.logs, log_labels), "count", None):
        if not len(impressions):
            continue
        counts.rows_read += len(impressions)
        first, last = counts.days
        counts.days = (min(first, int(impressions.day.min())), max(last, int(impressions.day.max())))
        used = 0
        for split, mask in options.split(impressions).items():
            selected = impressions.select(mask)
            used += len(selected)
            counts.rows[split] += len(selected)
            count_labels(selected, TASKS[options.tasks], counts, split)
            count_joins(selected, tables, counts, split)
            context.add(split, selected)
            if split == "train" and statistics is not None:
                statistics.add(selected)
            if len(selected):
                first_used = min(first_used, int(selected.day.min()))
        counts.rows_outside_dates += len(impressions) - used
    check_splits(options, counts)
    if tables.history is not None and last_day(tables.history) >= first_used:
        raise ValueError(
            f"{files.history}: histories run to {to_date(last_day(tables.history))}, but rows are used from"
            f" {to_date(first_used)}: they would leak labels; give a later --train-from or take the file away"
        )
    return counts


def check_splits(options: Options, counts: Counts) -> None:
    """Raises ValueError where a split is empty, or a task has one class only among its training rows."""
    if not counts.rows_read:
        raise ValueError(f"{options.raw}: the log has no rows")
    first, last = (to_date(day) for day in counts.days)
    for split, rows in counts.rows.items():
        if not rows:
            span = (
                f"{options.train_from or first} to the day before {options.eval_from}"
                if split == "train"
                else f"{options.eval_from} to {options.eval_to or last}"
            )
            raise ValueError(f"{options.raw}: no {split} row, dated {span}; the log runs from {first} to {last}")
    for task, positives in counts.positives["train"].items():
        defined = counts.defined["train"][task]
        if not 0 < positives < defined:
            raise ValueError(
                f"{options.raw}: task {task!r} has {positives} positives in the {defined} training rows where it is"
                " defined, expected both classes"
            )


def source(
    options: Options, files: RawFiles, counts: Counts, encoding: Encoding, reused: ReusedEncoding | None
) -> dict[str, object]:
    """The schema's ``source``: options, files, and counts of rows and ids."""
    first, last = (to_date(day) for day in counts.days)
    learnt = {"history_length": options.history_length, "min_count": options.min_count}
    return {
        "generator": "data_prep.kuairand",
        "licence": "CC BY-SA 4.0, as that of KuaiRand",
        "files": files.names,
        "task_set": options.tasks,
        "train_from": str(options.train_from or first),
        "eval_from": str(options.eval_from),
        "eval_to": str(options.eval_to or last),
        **(learnt if reused is None else {"encoding": reused.as_record()}),
        "rows_read": counts.rows_read,
        "rows_outside_dates": counts.rows_outside_dates,
        "positives": counts.positives,
        "rows_not_in_table": counts.rows_not_in_table,
        "unseen_ids": counts.unseen_ids,
        "missing_ids": counts.missing_ids,
        "dense_scaling": encoding.dense_scaling,
    }


def progress(batches: Iterator[Impressions], what: str, total: int | None) -> Iterator[Impressions]:
    """A progress bar on stderr, counting rows."""
    with tqdm(desc=what, total=total, unit="rows", unit_scale=True, mininterval=1.0) as bar:
        for batch in batches:
            yield batch
            bar.update(len(batch))


def main() -> None:
    options = cli.parse(Options, "data_prep.kuairand")
    schema = prepare(options)
    print(summary(schema, options.out))
    print(report(schema))


if __name__ == "__main__":
    cli.run("kuairand", main)
