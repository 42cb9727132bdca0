"""Which rows train and which evaluate."""

import re
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from data_prep.columns.layout import Layout
from data_prep.sources.times import Time, TimeArray, check_time_column, parse_time
from dlrm_mtl.schema import SPLITS, STREAM

RANGE = re.compile(r"(\d*):(\d*)")

RANGES = ("train_files", "eval_files", "train_rows", "eval_rows")
"""The options of ranges."""


@dataclass(frozen=True, kw_only=True)
class TimeOptions:
    """Which rows train and which evaluate, by their times."""

    time_column: str = ""
    """Column of each row's time: numbers, dates, timestamps, or text of ISO 8601 (UTC without a zone). By default the
    layout's. A row without a time is a bad row."""
    eval_from: str = ""
    """Rows from this time on evaluate, earlier ones train: a number, or a date or time of ISO 8601."""

    def apply(self, layout: Layout) -> Layout:
        """The layout with the time column of these options.

        Raises:
            ValueError: ``eval_from`` lacks a time column, or cannot be compared with it.
        """
        layout = replace(layout, time_column=self.time_column or layout.time_column)
        if layout.time_column:
            check_time_column(layout, self.eval_from)
        elif self.eval_from:
            raise ValueError(f"eval_from {self.eval_from!r}: expected time_column, too")
        return layout


@dataclass(frozen=True)
class SplitOptions(TimeOptions):
    """Which rows train and which evaluate, by half-open ranges: ``A:B`` from A up to, not including, B; either end may
    be empty. A row belongs to a split when both its file and its row number do. By default the last of several files
    evaluates, and of a single file the last tenth of the rows. With ``eval_from``, times decide within these ranges."""

    train_files: str = ""
    """Files of the training split, counted from 0 in their order: 0:23."""
    eval_files: str = ""
    """Files of the evaluation split."""
    train_rows: str = ""
    """Rows of the training split, counted from 0 over all files, headers left out."""
    eval_rows: str = ""
    """Rows of the evaluation split."""

    def validate(self) -> None:
        """Raises ValueError for an invalid range."""
        for name in RANGES:
            _range(name, getattr(self, name))

    def refuse(self) -> None:
        """Raises ValueError where an option chooses the rows of a split."""
        for name in (*RANGES, "eval_from"):
            if value := getattr(self, name):
                raise ValueError(f"{name} {value!r}: all rows go to the split {STREAM}; leave it out")


@dataclass(frozen=True)
class Split:
    """Ranges of files and rows of each split: train and eval, or stream alone."""

    files: dict[str, tuple[float, float]]
    rows: dict[str, tuple[float, float]]
    eval_from: Time | None = None
    """The first time that evaluates; None: times do not decide."""

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

    @staticmethod
    def of_stream() -> "Split":
        """All rows in the split stream."""
        return Split({STREAM: (0, np.inf)}, {STREAM: (0, np.inf)})

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.files)

    @property
    def is_stream(self) -> bool:
        return self.names == (STREAM,)

    @property
    def learnt(self) -> str:
        """The split whose rows ids and scales are learnt from."""
        return self.names[0]

    @property
    def evaluated(self) -> str:
        """The split whose rows are evaluated."""
        return self.names[-1]

    @property
    def needs_row_numbers(self) -> bool:
        return any(span != (0, np.inf) for span in self.rows.values())

    def resolve(self, rows: int) -> "Split":
        """The split with the last tenth of so many rows as row numbers."""
        ends = {LAST_TENTH: float(rows - rows // 10)}
        spans = {name: (ends.get(a, a), ends.get(b, b)) for name, (a, b) in self.rows.items()}
        return replace(self, rows=spans)

    def masks(
        self, file: int, numbers: npt.NDArray[np.int64], times: TimeArray | None
    ) -> dict[str, npt.NDArray[np.bool_] | bool]:
        """Masks of the rows (B,) of a file in each split, by their numbers and times; True or False for all or none."""
        masks: dict[str, npt.NDArray[np.bool_] | bool] = {}
        for split, (first, stop) in self.files.items():
            low, high = self.rows[split]
            if not first <= file < stop or not len(numbers) or numbers[0] >= high or numbers[-1] < low:
                masks[split] = False
            elif numbers[0] >= low and numbers[-1] < high:
                masks[split] = True
            else:
                masks[split] = (numbers >= low) & (numbers < high)
            if self.eval_from is not None and masks[split] is not False:
                assert times is not None
                masks[split] &= times >= self.eval_from if split == self.evaluated else times < self.eval_from
        return masks

    def describe(self) -> dict[str, dict[str, str]]:
        """Ranges as text, for the schema."""
        return {split: {"files": _text(self.files[split]), "rows": _text(self.rows[split])} for split in self.names}


LAST_TENTH = -1.0
"""Stands for the row at which the last tenth begins, until the rows are counted."""


def _range(name: str, text: str) -> tuple[float, float]:
    if not text:
        return 0, np.inf
    match = RANGE.fullmatch(text)
    low, high = (float(match[1] or 0), float(match[2] or np.inf)) if match else (0.0, 0.0)
    if not low < high:
        raise ValueError(f"{name} {text!r}: expected a range A:B with A below B, where either may be left out")
    return low, high


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return max(one[0], other[0]) < min(one[1], other[1])


def _text(span: tuple[float, float]) -> str:
    low, high = span
    return f"{int(low)}:{'' if high == np.inf else int(high)}"
