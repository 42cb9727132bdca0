"""Labels of impressions, and counts of rows, labels and ids for the schema and the summary."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.columns.labels import RegressionLabel
from data_prep.ids.vocabulary import MISSING_ID, UNSEEN_ID
from data_prep.kuairand_log.features import Tables
from data_prep.kuairand_log.raw_tables import Impressions
from dlrm_mtl.model_schema import CategoricalFeature, Task
from dlrm_mtl.schema import Schema

LABEL_SOURCES = {
    "click": ("is_click",),
    "long_view": ("long_view",),
    "like": ("is_like",),
    "profile_enter": ("is_profile_enter",),
    "comment": ("is_comment",),
    "click_long_view": ("is_click", "long_view"),
}
"""Label columns; each is 1 where all of these columns of the log are 1."""

PLAY = RegressionLabel("play", "play_time_ms", transform="log", divisor=1000.0)
"""Logarithm of 1 + the watch time in seconds."""


@dataclass
class Counts:
    """Counts of rows and ids, for the schema and the summary."""

    rows_read: int = 0
    rows_outside_dates: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    """Per split."""
    days: tuple[int, int] = (1 << 40, -(1 << 40))
    """First and last day read."""
    positives: dict[str, dict[str, int]] = field(default_factory=dict)
    """Per split and binary task."""
    defined: dict[str, dict[str, int]] = field(default_factory=dict)
    rows_not_in_table: dict[str, dict[str, int]] = field(default_factory=dict)
    """Per split and table: rows whose user or video the table lacks."""
    unseen_ids: dict[str, dict[str, int]] = field(default_factory=dict)
    """Per split and feature: ids outside the vocabulary of the training rows."""
    missing_ids: dict[str, dict[str, int]] = field(default_factory=dict)
    """Per split and feature: empty fields."""

    def read(self, impressions: Impressions) -> None:
        """Counts impressions (at least one) of any day."""
        self.rows_read += len(impressions)
        first, last = self.days
        self.days = (min(first, int(impressions.day.min())), max(last, int(impressions.day.max())))

    def as_record(self) -> dict[str, object]:
        """Entries of the schema's source."""
        return {
            "rows_read": self.rows_read,
            "rows_outside_dates": self.rows_outside_dates,
            "positives": self.positives,
            "rows_not_in_table": self.rows_not_in_table,
            "unseen_ids": self.unseen_ids,
            "missing_ids": self.missing_ids,
        }


def labels_of(tasks: Sequence[Task]) -> list[str]:
    """Label and condition columns, each once."""
    return list(dict.fromkeys(name for task in tasks for name in (task.label, task.given) if name))


def sources_of(tasks: Sequence[Task]) -> dict[str, str]:
    """How each column of the log that the labels come from is read: binary or number."""
    columns = {column: "binary" for label in labels_of(tasks) for column in LABEL_SOURCES.get(label, ())}
    return columns | ({PLAY.source: PLAY.use} if PLAY.name in labels_of(tasks) else {})


def derive_labels(impressions: Impressions, tasks: Sequence[Task]) -> dict[str, "np.ndarray"]:
    """Label columns (B,), int8 0 or 1, and float32 numbers."""
    return {label: _label(impressions, label) for label in labels_of(tasks)}


def _label(impressions: Impressions, label: str) -> "np.ndarray":
    if label == PLAY.name:
        return PLAY.values(impressions.columns[PLAY.source].astype(np.float64))[0].astype(np.float32)
    return np.prod([impressions.columns[column] for column in LABEL_SOURCES[label]], axis=0).astype(np.int8)


def count_labels(impressions: Impressions, tasks: Sequence[Task], counts: Counts, split: str) -> None:
    """Counts those of binary tasks."""
    tasks = [task for task in tasks if task.kind == "binary"]
    labels = derive_labels(impressions, tasks)
    for task in tasks:
        label = labels[task.label][labels[task.given] == 1] if task.given else labels[task.label]
        add(counts.positives, split, task.name, int(label.sum()))
        add(counts.defined, split, task.name, len(label))


def count_joins(impressions: Impressions, tables: Tables, counts: Counts, split: str) -> None:
    for name, rows in tables.join(impressions).items():
        # The last row is for users or videos that the table lacks.
        add(counts.rows_not_in_table, split, name, int((rows == len(tables.columns[name]) - 1).sum()))


def count_ids(columns: dict[str, pa.Array], features: Sequence[CategoricalFeature], counts: Counts, split: str) -> None:
    for feature in features:
        column = columns[feature.name]
        ids = column.flatten() if feature.multi_hot else column
        add(counts.unseen_ids, split, feature.name, pc.sum(pc.equal(ids, UNSEEN_ID)).as_py() or 0)
        add(counts.missing_ids, split, feature.name, pc.sum(pc.equal(ids, MISSING_ID)).as_py() or 0)


def add(counts: dict[str, dict[str, int]], split: str, name: str, number: int) -> None:
    of_split = counts.setdefault(split, {})
    of_split[name] = of_split.get(name, 0) + number


def report(schema: Schema) -> str:
    """Counts of used and outside rows and of missing and unseen ids, in lines."""
    counts = schema.source
    lines = [f"{counts['rows_read']:,} rows read; {counts['rows_outside_dates']:,} outside the dates, the others used"]
    for split in schema.splits:
        lacking = ", ".join(f"{rows:,} {table}" for table, rows in counts["rows_not_in_table"][split].items())
        unseen = {name: ids for name, ids in counts["unseen_ids"][split].items() if ids}
        lines.append(f"{split}: rows lacking in a table: {lacking}")
        lines.append(f"{split}: unseen ids: " + (", ".join(f"{n:,} {name}" for name, n in unseen.items()) or "none"))
    return "\n".join(lines)


def to_date(day: int) -> datetime.date:
    return datetime.date(1970, 1, 1) + datetime.timedelta(days=day)
