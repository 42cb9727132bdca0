"""What the command lines of preparations from raw logs share."""

import re
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from data_prep.columns.layout import Layout
from data_prep.ids.assignment import Method
from data_prep.ids.vocabulary import RESERVED_IDS
from data_prep.sources.times import Time, TimeArray, check_time_column, parse_time
from dlrm_mtl.schema import SPLITS

RANGE = re.compile(r"(\d*):(\d*)")


@dataclass(frozen=True, kw_only=True)
class TimeOptions:
    """Which rows train and which evaluate, by their times."""

    time_column: str = ""
    """Column of each row's time: a number, a date or timestamp, or text of ISO 8601 (UTC where it names no zone); by
    default the layout's, where it names one. A row without a time is a bad row."""
    eval_from: str = ""
    """Rows from this time on evaluate, earlier ones train: a number for times that are numbers, or a date or time of
    ISO 8601."""

    def apply(self, layout: Layout) -> Layout:
        """The layout with the time column of these options.

        Raises:
            ValueError: there is none but it is needed, or it cannot be compared with ``eval_from``.
        """
        layout = replace(layout, time_column=self.time_column or layout.time_column)
        if layout.time_column:
            check_time_column(layout, self.eval_from)
        elif self.eval_from:
            raise ValueError(f"eval_from {self.eval_from!r}: expected time_column beside it, the column of times")
        return layout


@dataclass(frozen=True)
class SplitOptions(TimeOptions):
    """Which rows train and which evaluate, by half-open ranges: ``A:B`` from A up to, not including, B; an empty end
    is open. A row belongs to a split when both its file and its row number do. By default the last of several files
    evaluates and the others train; a single file's last tenth of the rows does. With ``eval_from`` times decide, within
    whatever ranges are given."""

    train_files: str = ""
    """Files of the training split, counted from 0 in their order: 0:23."""
    eval_files: str = ""
    """Files of the evaluation split."""
    train_rows: str = ""
    """Rows of the training split, counted from 0 over all files, headers left out."""
    eval_rows: str = ""
    """Rows of the evaluation split."""

    def validate(self) -> None:
        """Raises ValueError where a range is none."""
        for name in ("train_files", "eval_files", "train_rows", "eval_rows"):
            _range(name, getattr(self, name))


@dataclass(frozen=True)
class Split:
    """Ranges of files and rows of each split."""

    files: dict[str, tuple[float, float]]
    rows: dict[str, tuple[float, float]]
    eval_from: Time | None = None
    """The first time that evaluates; None where times do not decide."""

    @staticmethod
    def of(options: SplitOptions, files: int) -> "Split":
        """The split of a log of so many files.

        Raises:
            ValueError: the two splits share rows.
        """
        ranges = {
            kind: {split: _range(f"{split}_{kind}", getattr(options, f"{split}_{kind}")) for split in SPLITS}
            for kind in ("files", "rows")
        }
        if options.eval_from:
            return Split(ranges["files"], ranges["rows"], parse_time(options.eval_from)[0])
        if not any(getattr(options, f"{split}_{kind}") for split in SPLITS for kind in ("files", "rows")):
            if files == 1:
                return Split(ranges["files"], {"train": (0, LAST_TENTH), "eval": (LAST_TENTH, np.inf)})
            return Split({"train": (0, float(files - 1)), "eval": (files - 1, float(files))}, ranges["rows"])
        if all(_overlap(ranges[kind]["train"], ranges[kind]["eval"]) for kind in ("files", "rows")):
            raise ValueError(
                f"train (files {options.train_files or ':'}, rows {options.train_rows or ':'}) and eval (files"
                f" {options.eval_files or ':'}, rows {options.eval_rows or ':'}) share rows; give ranges that do not"
            )
        return Split(ranges["files"], ranges["rows"])

    @property
    def needs_row_numbers(self) -> bool:
        return any(span != (0, np.inf) for span in self.rows.values())

    def resolve(self, rows: int) -> "Split":
        """With the last tenth of so many rows as numbers."""
        ends = {LAST_TENTH: float(rows - rows // 10)}
        spans = {name: (ends.get(a, a), ends.get(b, b)) for name, (a, b) in self.rows.items()}
        return replace(self, rows=spans)

    def masks(
        self, file: int, numbers: npt.NDArray[np.int64], times: TimeArray | None
    ) -> dict[str, npt.NDArray[np.bool_] | bool]:
        """Which rows (B,) of a file, by their numbers and times, each split has; True or False where it is all or
        none."""
        masks: dict[str, npt.NDArray[np.bool_] | bool] = {}
        for split in SPLITS:
            first, stop = self.files[split]
            low, high = self.rows[split]
            if not first <= file < stop or not len(numbers) or numbers[0] >= high or numbers[-1] < low:
                masks[split] = False
            elif numbers[0] >= low and numbers[-1] < high:
                masks[split] = True
            else:
                masks[split] = (numbers >= low) & (numbers < high)
            if self.eval_from is not None and masks[split] is not False:
                assert times is not None
                masks[split] &= times >= self.eval_from if split == "eval" else times < self.eval_from
        return masks

    def describe(self) -> dict[str, dict[str, str]]:
        """Ranges as text, for the schema."""
        return {split: {"files": _text(self.files[split]), "rows": _text(self.rows[split])} for split in SPLITS}


LAST_TENTH = -1.0
"""Stands for the row at which the last tenth begins, until the rows are counted."""


@dataclass(frozen=True)
class ContextOptions:
    """What is kept of evaluation rows beside features and labels, for intervals and for metrics by segment. The columns
    may be features, and need not be. By themselves come the segments day, where rows have a time, and user (known, new:
    whether the cluster has training rows), where there is a cluster."""

    cluster: str = ""
    """Column whose value the rows of a cluster share, such as the user's, which makes them depend on each other; by
    default the layout's, where it names one. A row without a value is a cluster by itself."""
    segments: tuple[str, ...] = ()
    """Columns by whose values evaluation rows are divided: the 64 most frequent of each, and other. By default the
    layout's."""

    def apply(self, layout: Layout) -> Layout:
        """The layout with the columns of these options.

        Raises:
            ValueError: a column is named twice, is of lists, or is none of the layout's.
        """
        return replace(layout, cluster=self.cluster or layout.cluster, segments=self.segments or layout.segments)


@dataclass(frozen=True)
class IdOptions:
    """How categorical values become ids. Ids 0 (missing) and 1 (not in the vocabulary) are reserved in every table."""

    ids: Method = "vocabulary"
    """vocabulary: learnt from the training rows in a pass of its own. hash, modulo: without a pass, of any value."""
    min_count: int = 1
    """vocabulary: occurrences in training rows from which a value has an id of its own."""
    max_ids: int = 0
    """Cap of each table's ids, reserved ones included. vocabulary: the most frequent values are kept, 0 is no cap.
    hash and modulo: the size of the tables."""
    table_max_ids: dict[str, int] = field(default_factory=dict)
    """Caps of single tables, by name, instead: cat_0 40000000 cat_9 1000."""
    multi_hot: dict[str, int] = field(default_factory=dict)
    """Ids per row to which one-hot features are expanded, by name: cat_0 3 cat_20 100."""

    def validate(self, layout: Layout) -> None:
        """Raises ValueError where an option is out of range or names what is not there."""
        if self.min_count < 1:
            raise ValueError(f"min_count {self.min_count}: expected at least 1")
        for name in self.table_max_ids:
            if name not in layout.tables:
                raise ValueError(f"table_max_ids: no table {name!r}; expected one of {', '.join(layout.tables)}")
        one_hot = [feature.feature for feature in layout.categorical if not feature.multi_hot]
        for name, length in self.multi_hot.items():
            if name not in one_hot:
                raise ValueError(f"multi_hot: no one-hot feature {name!r}; expected one of {', '.join(one_hot)}")
            if length < 1:
                raise ValueError(f"multi_hot {name} {length}: expected at least 1")
        for table in layout.tables:
            cap = self.cap(layout, table)
            if cap == 0 and self.ids != "vocabulary":
                raise ValueError(f"table {table!r}: {self.ids} needs max_ids, the number of ids of the table")
            if cap and not RESERVED_IDS < cap < 2**31:
                raise ValueError(f"table {table!r}: max_ids {cap}, expected {RESERVED_IDS + 1} to {2**31 - 1}")

    def cap(self, layout: Layout, table: str) -> int:
        """Cap of a table's ids: of the command line for this table, of the layout, of the command line for all."""
        return self.table_max_ids.get(table, layout.tables[table][0].max_ids or self.max_ids)


@dataclass(frozen=True)
class WorkOptions:
    """How the work is done."""

    workers: int = 1
    """Processes on this machine."""
    on_bad_row: Literal["stop", "quarantine"] = "stop"
    """stop: end with the first row that cannot be used. quarantine: write such rows and their reasons to
    OUT/quarantine.jsonl, count them, go on."""

    keep_parsed: bool = True
    """Keep what the first of two passes has parsed on disk for the second, which is faster and takes disk space
    in the meantime. Of text logs only."""

    def validate(self) -> None:
        """Raises ValueError where an option is out of range."""
        if self.workers < 1:
            raise ValueError(f"workers {self.workers}: expected at least 1")


def _range(name: str, text: str) -> tuple[float, float]:
    if not text:
        return 0, np.inf
    found = RANGE.fullmatch(text)
    low, high = (float(found[1] or 0), float(found[2] or np.inf)) if found else (0.0, 0.0)
    if not low < high:
        raise ValueError(f"{name} {text!r}: expected a range A:B with A below B, either end left out if need be")
    return low, high


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return max(one[0], other[0]) < min(one[1], other[1])


def _text(span: tuple[float, float]) -> str:
    low, high = span
    return f"{int(low)}:{'' if high == np.inf else int(high)}"
