"""The pass that cuts a log into periods: the typed rows of a segment go to one file, in blocks of one period each."""

import os
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.columns.arrays import NULL, Integers
from data_prep.columns.days import find_unit
from data_prep.columns.periods import Every, number_of, seconds_of
from data_prep.columns.rows import BadRow, Rows
from data_prep.engine.preparation import Preparation, key_of
from data_prep.engine.segments import SegmentWork
from data_prep.sources.parsed_rows import ParsedWriter
from dlrm_mtl.files import sha256
from dlrm_mtl.quoting import quote

CHUNK_ROWS = 1 << 18
"""Rows of a segment that are collected before they are written, period by period."""


@dataclass(frozen=True)
class CutPass:
    """Cuts a log into periods.

    Args:
        first: number of the first period that is kept, see :func:`data_prep.columns.periods.number_of`; the rows before
            are counted. None: all are kept.
    """

    every: Every
    first: int | None
    name: str = "cut"

    def begin(self, preparation: Preparation, file: int, segment: int) -> SegmentWork:
        return _Cutting(preparation, self, file, segment)


@dataclass
class _Pending:
    """Rows of one period, and what lies between them in the log."""

    tables: list[pa.Table] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    ignored: int = 0
    blank_end: int = 0
    broken: str = ""

    def rows(self, empty: pa.Table) -> Rows:
        table = pa.concat_tables(self.tables) if self.tables else empty
        # A file that breaks off is a bad row, and no line.
        lines = len(table) + len(self.bad) - bool(self.broken)
        return Rows(table, np.arange(len(table)), lines, self.bad, self.ignored, self.blank_end, self.broken)


class _Cutting:
    def __init__(self, preparation: Preparation, stage: CutPass, file: int, segment: int) -> None:
        assert preparation.times is not None
        self._path = cut_file(preparation, key_of(file, segment))
        self._writer = ParsedWriter(self._path)
        self._stage = stage
        self._times = preparation.times
        self._log = preparation.files[file]
        self._pending: dict[int, _Pending] = {}
        self._collected = 0
        self._empty: pa.Table | None = None
        self._line = 1
        self._last = NULL
        """Period of the last row."""
        self._blocks: list[int] = []
        self._rows: Counter[int] = Counter()
        self._before = 0
        self._units: set[str] = set()

    def add(self, rows: Rows) -> None:
        numbers = np.empty(0, np.int64)
        if len(rows.table):
            if self._empty is None:
                self._empty = rows.table.slice(0, 0)
            numbers = self._numbers(rows.table)
            self._add_timed(rows.table, numbers)
        for bad in rows.bad:
            place = int(np.searchsorted(rows.positions, bad.line - self._line)) - 1
            self._between(self._last if place < 0 else int(numbers[place])).bad.append(bad)
        self._line += rows.lines
        self._last = int(numbers[-1]) if len(numbers) else self._last
        if rows.ignored or rows.blank_end or rows.broken:
            pending = self._between(self._last)
            pending.ignored += rows.ignored
            pending.blank_end += rows.blank_end
            pending.broken = pending.broken or rows.broken
        if self._collected >= CHUNK_ROWS:
            self._write()

    def finish(self) -> tuple[dict[str, Any], dict[Path, str]]:
        self._write()
        self._writer.close()
        # A log that is cut again gives the same files, so that finished periods stay.
        os.utime(self._path, ns=(0, 0))
        rows = {str(number): of_period for number, of_period in sorted(self._rows.items())}
        record = {"periods": self._blocks, "rows": rows, "before": self._before, "units": sorted(self._units)}
        return record, {self._path: sha256(self._path)}

    def abandon(self) -> None:
        self._writer.abandon()

    def _add_timed(self, table: pa.Table, numbers: Integers) -> None:
        if self._stage.first is not None:
            is_kept = numbers >= self._stage.first
            self._before += int(np.count_nonzero(~is_kept))
            table, numbers = table.filter(pa.array(is_kept)), numbers[is_kept]
        self._collected += len(table)
        if (numbers[1:] < numbers[:-1]).any():
            order = np.argsort(numbers, kind="stable")
            table, numbers = table.take(pa.array(order)), numbers[order]
        ends = [*(np.flatnonzero(numbers[1:] != numbers[:-1]) + 1).tolist(), len(numbers)]
        for start, stop in pairwise([0, *ends]):
            if stop > start:
                number = int(numbers[start])
                self._of_period(number).tables.append(table.slice(start, stop - start))
                self._rows[number] += stop - start

    def _numbers(self, table: pa.Table) -> Integers:
        """The period (B,) of each row."""
        times = self._times.of(table)
        unit = find_unit(times.min().item(), times.max().item()) if self._times.are_numbers else "ns"
        if unit is None:
            raise ValueError(
                f"{self._log}: column {quote(self._times.column)}: {times.min()} to {times.max()}, expected times"
                " between 1990 and 2100 as seconds, milliseconds, microseconds or nanoseconds since 1970, or dates like"
                " 20240131"
            )
        self._units.add(unit)
        seconds = seconds_of(times, unit)
        if (seconds == NULL).any():
            raise ValueError(
                f"{self._log}: column {quote(self._times.column)}: {times[seconds == NULL][0]}, expected a date"
            )
        return number_of(seconds, self._stage.every)

    def _of_period(self, number: int) -> _Pending:
        return self._pending.setdefault(number, _Pending())

    def _between(self, number: int) -> _Pending:
        """Where what has no time goes, by the period of the row before; dropped where that row is."""
        is_kept = number == NULL or self._stage.first is None or number >= self._stage.first
        return self._of_period(number) if is_kept else _Pending()

    def _write(self) -> None:
        for number, pending in sorted(self._pending.items()):
            self._writer.add(pending.rows(pa.table({}) if self._empty is None else self._empty))
            self._blocks.append(number)
        self._pending, self._collected = {}, 0


def cut_file(preparation: Preparation, key: str) -> Path:
    """File for the rows of a log segment, cut into periods."""
    return preparation.directory.file("rows", f"{key}.arrow")
