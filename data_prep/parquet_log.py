"""Parquet files as a raw log: segments are runs of row groups."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_prep.keys import decode_hex, one_chunk
from data_prep.layout import Layout
from data_prep.raw_columns import known_texts, required_labels
from data_prep.raw_text import SEGMENT_BYTES, BrokenFile
from data_prep.rows import EXPECTED, LARGEST, BadRow, Piece, Rows

BATCH_ROWS = 65_536

HEX = "^[0-9a-fA-F]{8}$"


class ParquetLog:
    """Parquet files of one layout.

    Raises:
        ValueError: a file is no parquet file, lacks a column or has one of a type that cannot be used.
    """

    def __init__(self, layout: Layout, files: Sequence[Path]) -> None:
        self.files = files
        self._layout = layout
        self._uses = layout.uses
        self._known = known_texts(layout)
        self._required = required_labels(layout)
        self._segments = [self._plan(path) for path in files]

    @property
    def is_slow(self) -> bool:
        return False

    def segments(self, file: int) -> int | None:
        return len(self._segments[file])

    def read(self, file: int, first: int, last: int | None) -> Iterator[Piece]:
        path = self.files[file]
        final = len(self._segments[file]) - 1 if last is None else last
        for segment in range(first, final + 1):
            line = 1
            try:
                with pq.ParquetFile(path) as parquet:
                    groups = self._segments[file][segment]
                    size = sum(_bytes(parquet, group) for group in groups)
                    batches = parquet.iter_batches(BATCH_ROWS, groups, list(self._uses), use_threads=False)
                    for batch in batches:
                        rows = self._check(batch, line)
                        yield Piece(segment, rows, size)
                        line, size = line + rows.lines, 0
            except (OSError, pa.ArrowInvalid) as error:
                raise BrokenFile(f"cannot be read on ({' '.join(str(error).split())})", line - 1) from None

    def count(self, file: int, first: int, last: int | None) -> Iterator[tuple[int, int]]:
        final = len(self._segments[file]) - 1 if last is None else last
        with pq.ParquetFile(self.files[file]) as parquet:
            for segment in range(first, final + 1):
                groups = self._segments[file][segment]
                yield segment, sum(parquet.metadata.row_group(group).num_rows for group in groups)

    def line(self, file: int, segment: int, line: int) -> int:
        return sum(rows for _, rows in self.count(file, 0, segment - 1)) + line

    def _plan(self, path: Path) -> list[list[int]]:
        try:
            with pq.ParquetFile(path) as parquet:
                self._check_schema(path, parquet.schema_arrow)
                segments: list[list[int]] = [[]]
                size = 0
                for group in range(parquet.num_row_groups):
                    if size >= SEGMENT_BYTES:
                        segments.append([])
                        size = 0
                    segments[-1].append(group)
                    size += parquet.metadata.row_group(group).total_byte_size
                return segments
        except (OSError, pa.ArrowInvalid) as error:
            raise ValueError(f"{path}: cannot be read as parquet ({' '.join(str(error).split())})") from None

    def _check_schema(self, path: Path, schema: pa.Schema) -> None:
        for column, use in self._uses.items():
            if schema.names.count(column) != 1:
                found = "is there twice" if column in schema.names else "is missing"
                raise ValueError(f"{path}: column {column!r} {found}; the file has {', '.join(schema.names)}")
            kind = schema.field(column).type
            is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
            if not (is_list and _fits(kind.value_type, self._kind_of(column)) if use == "list" else _fits(kind, use)):
                raise ValueError(f"{path}: column {column!r} is of type {kind}, which cannot be read as {use}")

    def _check(self, batch: pa.RecordBatch, first_line: int) -> Rows:
        """Typed columns of the good rows, and the bad rows."""
        faults: dict[int, tuple[str, str]] = {}
        columns = {}
        for name, use in self._uses.items():
            column = batch.column(name)
            if pa.types.is_dictionary(column.type):
                column = column.dictionary_decode()
            typed, bad = _typed(column, self._kind_of(name) if use == "list" else use, use == "list")
            columns[name] = typed
            for mask, reason in (
                (bad, f"expected {EXPECTED.get(use, 'a list of values')}"),
                (self._lacks_label(name, typed), "a label is missing"),
                (self._is_unknown(name, typed), f"expected {' or '.join(self._known.get(name, []))}"),
            ):
                for position in np.flatnonzero(mask):
                    faults.setdefault(int(position), (name, reason))
        table = pa.table(columns)
        if not faults:
            return Rows(table, np.arange(len(table)), len(table))
        good = np.setdiff1d(np.arange(len(table)), list(faults))
        rows = [
            BadRow(
                first_line + position,
                name,
                str(batch.column(name)[position].as_py()),
                reason,
                json.dumps(batch.slice(position, 1).to_pylist()[0], default=str),
            )
            for position, (name, reason) in sorted(faults.items())
        ]
        return Rows(table.take(good), good, batch.num_rows, rows)

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


def _fits(kind: pa.DataType, use: str) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    is_integer = pa.types.is_integer(kind)
    is_number = is_integer or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_decimal(kind)
    if use == "hex":
        return is_text
    if use == "string":
        return is_text or is_number
    return is_integer or pa.types.is_boolean(kind) if use == "integer" else is_number


def _typed(column: pa.Array, use: str, is_list: bool) -> tuple[pa.Array, np.ndarray]:
    """A column of the type for its use, and which rows are bad (anything there)."""
    if is_list:
        lists = column.cast(pa.list_(column.type.value_type))
        values = one_chunk(pc.list_flatten(lists))
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        values, bad_values = _typed(values, use, False)
        # A null among the values of a list is as bad as a wrong one.
        bad_values |= np.asarray(values.is_null())
        lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
        bad = np.zeros(len(column), bool)
        bad[np.repeat(np.arange(len(column)), lengths)[bad_values]] = True
        return pa.ListArray.from_arrays(offsets, values), bad
    missing = np.asarray(column.is_null())
    if use == "hex":
        bad = np.asarray(pc.fill_null(pc.invert(pc.match_substring_regex(column, HEX)), False))
        text = pc.if_else(pa.array(bad), pa.scalar(None, pa.string()), column.cast(pa.string()))
        return decode_hex(text.cast(pa.binary()).cast(pa.binary(8)))[0], bad
    if use == "string":
        return column.cast(pa.string()), np.zeros(len(column), bool)
    values = column.cast(pa.float64(), safe=False)
    numbers = values.fill_null(0.0).to_numpy()
    if use == "number":
        return pc.if_else(pa.array(np.isnan(numbers)), pa.scalar(None, pa.float64()), values), np.abs(numbers) > LARGEST
    if use == "binary":
        bad = ~missing & (numbers != 0.0) & (numbers != 1.0)
        return pa.array(numbers == 1.0, mask=missing | bad).cast(pa.int8()), bad
    bad = np.zeros(len(column), bool)
    if pa.types.is_uint64(column.type):
        bad = ~missing & (numbers >= 2.0**63)
        column = pc.if_else(pa.array(bad), pa.scalar(None, column.type), column)
    return column.cast(pa.int64()), bad
