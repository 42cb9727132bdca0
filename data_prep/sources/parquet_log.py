"""Parquet files as a raw log: segments are runs of row groups."""

import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_prep.columns.arrow_columns import READABLE, Column, family, item_type, read_lists, read_values, value_type
from data_prep.columns.layout import Layout
from data_prep.columns.raw_columns import known_texts, required_labels
from data_prep.columns.rows import LABEL_MISSING, BadRow, Piece, Rows
from data_prep.columns.text_types import TextTypes
from data_prep.sources.partitions import partition_columns, repeated
from data_prep.sources.raw_text import SEGMENT_BYTES, BrokenFile
from dlrm_mtl.quoting import quote, shorten

BATCH_ROWS = 65_536

READ_ERRORS = (OSError, UnicodeDecodeError, pa.ArrowException)
"""What pyarrow raises where a file is damaged, encrypted, or holds what it cannot read."""


class ParquetLog:
    """Parquet files of one layout.

    Raises:
        ValueError: a file lacks a column, has one of a type that cannot be used, or one whose values would have other
            keys than those of another file.
    """

    def __init__(self, layout: Layout, files: Sequence[Path]) -> None:
        self.files = files
        self.unreadable: dict[int, str] = {}
        self._layout = layout
        self._uses = layout.uses
        self._known = known_texts(layout)
        self._required = required_labels(layout)
        self._segments: list[list[list[int]]] = []
        self._partitions: list[dict[str, pa.Array]] = []
        types = TextTypes(layout)
        for number, path in enumerate(files):
            try:
                with pq.ParquetFile(path) as parquet:
                    schema, segments = parquet.schema_arrow, _segments(parquet)
            except READ_ERRORS as error:
                self.unreadable[number] = f"cannot be read as parquet ({shorten(' '.join(str(error).split()))})"
                self._segments.append([[]])
                self._partitions.append({})
                continue
            self._segments.append(segments)
            self._partitions.append(partition_columns(path, layout, schema.names))
            self._check_schema(path, schema, self._partitions[-1].keys())
            types.add(path, schema)
        self._with_narrow_fractions = types.with_narrow_fractions

    @property
    def is_slow(self) -> bool:
        return False

    def segments(self, file: int) -> int | None:
        return len(self._segments[file])

    def read(self, file: int, first: int, last: int | None) -> Iterator[Piece]:
        self._refuse_unreadable(file)
        path = self.files[file]
        columns = [name for name in self._uses if name not in self._partitions[file]]
        final = len(self._segments[file]) - 1 if last is None else last
        for segment in range(first, final + 1):
            line = 1
            try:
                with pq.ParquetFile(path) as parquet:
                    groups = self._segments[file][segment]
                    size = sum(_bytes(parquet, group) for group in groups)
                    for batch in parquet.iter_batches(BATCH_ROWS, groups, columns, use_threads=False):
                        rows = self._check(file, batch, line)
                        yield Piece(segment, rows, size, line)
                        line, size = line + rows.lines, 0
            except READ_ERRORS as error:
                raise BrokenFile(f"cannot be read on ({shorten(' '.join(str(error).split()))})", line - 1) from None

    def count(self, file: int, first: int, last: int | None) -> Iterator[tuple[int, int]]:
        self._refuse_unreadable(file)
        final = len(self._segments[file]) - 1 if last is None else last
        with pq.ParquetFile(self.files[file]) as parquet:
            for segment in range(first, final + 1):
                groups = self._segments[file][segment]
                yield segment, sum(parquet.metadata.row_group(group).num_rows for group in groups)

    def line(self, file: int, segment: int, line: int) -> int:
        return sum(rows for _, rows in self.count(file, 0, segment - 1)) + line if segment else line

    def _refuse_unreadable(self, file: int) -> None:
        if file in self.unreadable:
            raise BrokenFile(self.unreadable[file], 0)

    def _check_schema(self, path: Path, schema: pa.Schema, in_path: Collection[str]) -> None:
        for column, use in self._uses.items():
            if column in in_path:
                continue
            place = f"{path}: column {quote(column)}"
            if schema.names.count(column) != 1:
                found = "is there twice" if column in schema.names else "is missing"
                raise ValueError(f"{place} {found}; the file has {shorten(', '.join(schema.names))}")
            kind = schema.field(column).type
            values = item_type(kind) if use == "list" else value_type(kind)
            if values is None or family(values) not in READABLE[self._kind_of(column) if use == "list" else use]:
                raise ValueError(f"{place} is of type {shorten(str(kind))}, which cannot be read as {use}")

    def _check(self, file: int, batch: pa.RecordBatch, first_line: int) -> Rows:
        """Typed columns of the good rows, and the bad rows."""
        faults: dict[int, tuple[str, str]] = {}
        columns = repeated(self._partitions[file], batch.num_rows)
        for name, use in self._uses.items():
            if name in columns:
                continue
            read = self._read_column(batch, name, use)
            columns[name] = read.values
            for mask, reason in (
                *read.faults,
                (self._lacks_label(name, read.values), LABEL_MISSING),
                (self._is_unknown(name, read.values), f"expected {shorten(' or '.join(self._known.get(name, [])))}"),
            ):
                for position in np.flatnonzero(mask):
                    faults.setdefault(int(position), (name, reason))
        table = pa.table(columns)
        if not faults:
            return Rows(table, np.arange(len(table)), len(table))
        good = np.setdiff1d(np.arange(len(table)), list(faults))
        bad = [
            BadRow(first_line + position, name, str(shown[name]), reason, json.dumps(shown, default=str))
            for position, (name, reason) in sorted(faults.items())
            for shown in [{column: _shown(batch.column(column)[position]) for column in batch.schema.names}]
        ]
        return Rows(table.take(good), good, batch.num_rows, bad)

    def _read_column(self, batch: pa.RecordBatch, name: str, use: str) -> Column:
        narrow = name in self._with_narrow_fractions
        if use == "list":
            return read_lists(batch.column(name), self._kind_of(name), narrow)
        return read_values(batch.column(name), use, narrow)

    def _lacks_label(self, name: str, column: pa.Array) -> np.ndarray:
        return np.asarray(column.is_null()) if name in self._required else np.zeros(len(column), bool)

    def _is_unknown(self, name: str, column: pa.Array) -> np.ndarray:
        """Which values are none of those that a label tells."""
        if name not in self._known:
            return np.zeros(len(column), bool)
        is_known = pc.is_in(column, value_set=pa.array(self._known[name], pa.string()))
        return ~np.asarray(is_known) & np.asarray(column.is_valid())

    def _kind_of(self, name: str) -> str:
        return next(feature.kind for feature in self._layout.categorical if feature.column == name)


def _bytes(parquet: pq.ParquetFile, group: int) -> int:
    metadata = parquet.metadata.row_group(group)
    return sum(metadata.column(i).total_compressed_size for i in range(metadata.num_columns))


def _segments(parquet: pq.ParquetFile) -> list[list[int]]:
    """The row groups of each segment."""
    segments: list[list[int]] = [[]]
    size = 0
    for group in range(parquet.num_row_groups):
        if size >= SEGMENT_BYTES:
            segments.append([])
            size = 0
        segments[-1].append(group)
        size += parquet.metadata.row_group(group).total_byte_size
    return segments


def _shown(value: pa.Scalar) -> Any:
    """A value for JSON: as Python has it; text that is no UTF-8 with surrogates for its bytes."""
    kind = value_type(value.type)
    try:
        if family(kind) == "text" and value.is_valid:
            return value.cast(kind).cast(pa.binary()).as_py().decode(errors="surrogateescape")
        return value.as_py()
    except (ValueError, OverflowError, pa.ArrowException):
        return f"a value of type {kind} that Python cannot show"
