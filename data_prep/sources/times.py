"""Times of a log's rows: numbers as they stand, or dates and times of ISO 8601."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data_prep.columns.arrays import one_chunk
from data_prep.columns.layout import Layout
from data_prep.columns.rows import BadRow, Piece, Rows
from data_prep.sources.raw_text import BrokenFile
from data_prep.sources.source import Source
from dlrm_mtl.location import Location

Time = int | float
"""A number of the log, or nanoseconds since 1970 in UTC."""
TimeArray = npt.NDArray[Any]
"""Of int64 or float64."""

NUMERIC = ("integer", "number")
"""Uses of a column whose values are numbers."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NUMBER = re.compile(r"[+-]?\d{1,19}|[+-]?\d{1,19}\.\d*([eE][+-]?\d{1,2})?")


@dataclass(frozen=True)
class Times:
    """The times of a log."""

    column: str
    are_numbers: bool
    """Whether they are numbers; otherwise they are dates and times."""

    def of(self, table: pa.Table) -> TimeArray:
        """Times (B,) of rows; none is missing."""
        return self.parse(one_chunk(table[self.column]))[0]

    @property
    def expected(self) -> str:
        return "expected a number" if self.are_numbers else "expected a date or time of ISO 8601"

    def parse(self, values: pa.Array) -> tuple[TimeArray, npt.NDArray[np.bool_]]:
        """Times (B,) of a column's values, and which (B,) are missing or invalid; their times are undefined."""
        if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
            bad = np.asarray(values.is_null())
            return values.fill_null(0).to_numpy(zero_copy_only=False), bad
        fast = _parse_all(values, self.are_numbers)
        if fast is not None:
            return fast, np.asarray(values.is_null())
        times = [_parse_one(text, self.are_numbers) for text in values.to_pylist()]
        kind = np.float64 if any(isinstance(time, float) for time in times) else np.int64
        bad = np.array([time is None for time in times], bool)
        return np.array([0 if time is None else time for time in times], kind), bad

    def text(self, time: Time) -> str:
        """A time as text."""
        if self.are_numbers:
            return str(time)
        moment = EPOCH + timedelta(microseconds=int(time) // 1000)
        return moment.replace(tzinfo=None).isoformat(sep=" ")


def parse_time(text: str) -> tuple[Time, bool]:
    """The time in an option's text, and whether it is a number.

    Raises:
        ValueError: it is neither a number nor a date or time of ISO 8601.
    """
    for are_numbers in (True, False):
        time = _parse_one(text, are_numbers)
        if time is not None:
            return time, are_numbers
    raise ValueError(f"eval_from {text!r}: expected a number, or a date or time of ISO 8601")


def find_times(source: Source, column: str) -> Times:
    """Whether the times of a log are numbers, by the first one."""
    for file in range(len(source.files)):
        try:
            for piece in source.read(file, 0, 0):
                values = one_chunk(piece.rows.table[column]).drop_null()
                if len(values):
                    return Times(column, NUMBER.fullmatch(str(values[0].as_py())) is not None)
        except BrokenFile:
            continue  # the passes report it
    return Times(column, are_numbers=False)


class TimedLog:
    """A log in which a row without a time is a bad row."""

    def __init__(self, source: Source, times: Times) -> None:
        self.files: Sequence[Location] = source.files
        self.unreadable = source.unreadable
        self.is_slow = source.is_slow
        self.has_texts = source.has_texts
        self._source = source
        self._times = times

    def segments(self, file: int) -> int | None:
        return self._source.segments(file)

    def read(self, file: int, first: int, last: int | None) -> Iterator[Piece]:
        for piece in self._source.read(file, first, last):
            rows = self._with_times(piece.rows, piece.first_line)
            yield replace(piece, rows=rows)

    def count(self, file: int, first: int, last: int | None) -> Iterator[tuple[int, int]]:
        return self._source.count(file, first, last)

    def line(self, file: int, segment: int, line: int) -> int:
        return self._source.line(file, segment, line)

    def _with_times(self, rows: Rows, first_line: int) -> Rows:
        if not len(rows.table):
            return rows
        values = one_chunk(rows.table[self._times.column])
        _, lacking = self._times.parse(values)
        if not lacking.any():
            return rows
        bad = [
            BadRow(
                first_line + int(rows.positions[row]),
                self._times.column,
                str(values[int(row)].as_py()),
                f"{self._times.expected}: it is the row's time",
                json.dumps(rows.table.slice(int(row), 1).to_pylist()[0], default=str),
            )
            for row in np.flatnonzero(lacking)
        ]
        return replace(
            rows,
            table=rows.table.filter(pa.array(~lacking)),
            positions=rows.positions[~lacking],
            bad=sorted([*rows.bad, *bad], key=lambda row: row.line),
        )


def check_time_column(layout: Layout, eval_from: str) -> None:
    """Raises ValueError where a layout's time column cannot be compared with ``eval_from``, which may be empty."""
    use = layout.uses[layout.time_column]
    if use not in ("string", *NUMERIC):
        raise ValueError(f"time column {layout.time_column!r} is read as {use}, expected string, integer or number")
    if eval_from and use in NUMERIC and not parse_time(eval_from)[1]:
        raise ValueError(f"eval_from {eval_from!r}: expected a number, as column {layout.time_column!r} is {use}")


def _parse_all(values: pa.Array, are_numbers: bool) -> TimeArray | None:
    """Times of texts (B,), undefined where missing; None where any text needs the slow parser."""
    try:
        if are_numbers:
            return values.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        return values.cast(pa.timestamp("ns")).cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        return None


def _parse_one(text: Any, is_number: bool) -> Time | None:
    if text is None:
        return None
    text = text.strip()
    if is_number:
        if not NUMBER.fullmatch(text):
            return None
        number = float(text) if "." in text else int(text)
        return number if abs(number) < 2**63 else None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH
    nanoseconds = (since // timedelta(microseconds=1)) * 1000
    return nanoseconds if abs(nanoseconds) < 2**63 else None
