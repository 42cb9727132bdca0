"""Record batches of a log's files as typed rows, whatever Arrow types their columns have."""

import json
from collections.abc import Collection
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.columns.arrow_columns import READABLE, Column, family, item_type, read_lists, read_values, value_type
from data_prep.columns.layout import Layout
from data_prep.columns.raw_columns import allowed_texts, required_columns
from data_prep.columns.rows import BadRow, Rows
from data_prep.columns.text_types import TextTypes
from data_prep.sources.partitions import partition_columns, repeated
from dlrm_mtl.location import Location
from dlrm_mtl.quoting import quote, shorten

READ_ERRORS = (OSError, UnicodeDecodeError, pa.ArrowException)
"""What pyarrow raises where a file is damaged, encrypted, or holds what it cannot read."""


class ArrowRows:
    """Converts rows to the types of a layout and separates bad rows. All files are added, in order, before any row is
    parsed."""

    def __init__(self, layout: Layout) -> None:
        self._uses = layout.uses
        self._kinds = {feature.column: feature.kind for feature in layout.categorical}
        self._known = allowed_texts(layout)
        self._required = required_columns(layout)
        self._layout = layout
        self._partitions: list[dict[str, pa.Array]] = []
        self._types = TextTypes(layout)

    def add(self, path: Location, schema: pa.Schema | None) -> None:
        """Adds the next file by its columns; None for a file without rows.

        Raises:
            ValueError: the file lacks a column, has one of a type that cannot be used, or one whose values would have
                other keys than those of another file.
        """
        if schema is None:
            self._partitions.append({})
            return
        self._partitions.append(partition_columns(path, self._layout, schema.names))
        self._check_schema(path, schema, self._partitions[-1].keys())
        self._types.add(path, schema)

    def columns(self, file: int) -> list[str]:
        """The columns to read from a file; its path gives the others."""
        return [name for name in self._uses if name not in self._partitions[file]]

    def parse(self, file: int, batch: pa.RecordBatch, first_line: int) -> Rows:
        """Typed columns of the good rows, and the bad rows.

        Args:
            first_line: number of the first row within its segment, from 1.
        """
        faults: dict[int, tuple[str, str]] = {}
        columns = repeated(self._partitions[file], batch.num_rows)
        for name in self.columns(file):
            read = self._read_column(batch.column(name), name)
            columns[name] = read.values
            for mask, reason in (
                *read.faults,
                (self._is_lacking(name, read.values), self._required.get(name, "")),
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

    def _check_schema(self, path: Location, schema: pa.Schema, in_path: Collection[str]) -> None:
        for column, use in self._uses.items():
            if column in in_path:
                continue
            place = f"{path}: column {quote(column)}"
            if schema.names.count(column) != 1:
                fault = "is there twice" if column in schema.names else "is missing"
                raise ValueError(f"{place} {fault}; the file has {shorten(', '.join(schema.names))}")
            kind = schema.field(column).type
            values = item_type(kind) if use == "list" else value_type(kind)
            if values is None or family(values) not in READABLE[self._kinds[column] if use == "list" else use]:
                raise ValueError(f"{place} is of type {shorten(str(kind))}, which cannot be read as {use}")

    def _read_column(self, column: pa.Array, name: str) -> Column:
        narrow = name in self._types.with_narrow_fractions
        if self._uses[name] == "list":
            return read_lists(column, self._kinds[name], narrow)
        return read_values(column, self._uses[name], narrow)

    def _is_lacking(self, name: str, column: pa.Array) -> np.ndarray:
        return np.asarray(column.is_null()) if name in self._required else np.zeros(len(column), bool)

    def _is_unknown(self, name: str, column: pa.Array) -> np.ndarray:
        """Which values are neither positive nor negative, for a label that lists both."""
        if name not in self._known:
            return np.zeros(len(column), bool)
        is_known = pc.is_in(column, value_set=pa.array(self._known[name], pa.string()))
        return ~np.asarray(is_known) & np.asarray(column.is_valid())


def _shown(value: pa.Scalar) -> Any:
    """A value for JSON; invalid UTF-8 as surrogates."""
    kind = value_type(value.type)
    try:
        if family(kind) == "text" and value.is_valid:
            return value.cast(kind).cast(pa.binary()).as_py().decode(errors="surrogateescape")
        return value.as_py()
    except (ValueError, OverflowError, pa.ArrowException):
        return f"a value of type {kind} that Python cannot show"
