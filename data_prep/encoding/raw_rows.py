"""Raw rows - dicts, an Arrow table or a data frame - as the columns that an encoder takes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.columns.arrays import one_chunk, valid_of
from data_prep.columns.arrow_columns import (
    READABLE,
    Column,
    Fault,
    family,
    item_type,
    read_lists,
    read_values,
    value_type,
)
from data_prep.columns.raw_columns import cleaned
from data_prep.columns.rows import EXPECTED
from data_prep.encoding import kuairand
from data_prep.encoding.encoding import Encoding
from dlrm_mtl.quoting import quote, shorten

CONVERSION_ERRORS = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, TypeError)
"""What pyarrow raises for values that no type holds, or no one type."""

PLAIN = {
    "hex": (pa.string(),),
    "string": (pa.string(),),
    "integer": (pa.int64(), pa.float64()),
    "number": (pa.float64(), pa.int64()),
}
"""Types in which values of a use are read whatever other columns have."""

A_TEXT = "a text, as the log has it: a floating-point number has more than one, such as 2 and 2.0"


class RawRows:
    """Reads raw rows. Values have the types and texts that a preparation reads from parquet files
    (docs/data/parquet.md); None and NaN are missing values; columns that no feature needs are ignored."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        uses = encoding.uses
        self._item_kinds = {feature.column: feature.kind for feature in encoding.categorical}
        self._has_history = any(name in uses for name in kuairand.HISTORY_LISTS)
        if encoding.rows == "kuairand":
            columns = [source for name in uses for source in kuairand.SOURCES.get(name, (name,))]
            uses = {name: kuairand.USES[name] for name in columns}
        self._uses = uses
        self._sizes = {
            feature.column: encoding.fingerprints.tables[feature.table_name].size for feature in encoding.categorical
        }

    @property
    def columns(self) -> list[str]:
        """The columns that rows must have."""
        return list(self._uses)

    def read(self, rows: Any) -> pa.Table:
        """The columns (B,) of the features.

        Args:
            rows: B rows: a list of mappings, an Arrow table or record batch, or a pandas data frame.

        Raises:
            ValueError: a column is missing, or a value is of a wrong type or out of range; names column, row (from 0)
                and value.
        """
        raw = _columns_of(rows, self.columns)
        columns = self._read_together(raw) if isinstance(rows, list | tuple) else {}
        for name, use in self._uses.items():
            if name not in columns:
                columns[name] = self._typed(raw[name], name, use)
            self._check(columns[name], raw[name], name)
        table = pa.table({name: column.values for name, column in columns.items()})
        return kuairand.joined_columns(table, self._has_history) if self._encoding.rows == "kuairand" else table

    def _read_together(self, raw: Mapping[str, Sequence[Any]]) -> dict[str, Column]:
        """Columns of one use that have one type and no fault; for few rows, one call for all of them is faster."""
        columns: dict[str, Column] = {}
        for use, types in PLAIN.items():
            names = [name for name, of_name in self._uses.items() if of_name == use]
            try:
                together = pa.array([value for name in names for value in raw[name]], from_pandas=True)
            except CONVERSION_ERRORS:
                continue
            if together.type not in types:
                continue
            read = self._convert(together, names[0], use)
            if not any(mask.any() for mask, _ in read.faults):
                rows = len(raw[names[0]])
                columns |= {name: Column(read.values.slice(i * rows, rows)) for i, name in enumerate(names)}
        return columns

    def _check(self, column: Column, raw: pa.Array | Sequence[Any], name: str) -> None:
        """Raises ValueError for the first fault."""
        for mask, reason in self._faults(column, name):
            if mask.any():
                row = int(np.argmax(mask))
                raise ValueError(f"row {row}: column {quote(name)} is {quote(_shown(raw[row]))}, {reason}")

    def _faults(self, column: Column, name: str) -> Iterator[Fault]:
        yield from column.faults
        if self._encoding.rows == "encoded":
            yield self._out_of_range(column.values, name)
        if self._encoding.rows == "kuairand" and name == "date":
            yield kuairand.no_date(column.values)

    def _typed(self, raw: pa.Array | Sequence[Any], name: str, use: str) -> Column:
        if isinstance(raw, pa.Array):
            return self._convert(raw, name, use)
        try:
            return self._convert(pa.array(raw, from_pandas=True), name, use)
        except CONVERSION_ERRORS:
            return self._one_by_one(raw, name, use)

    def _one_by_one(self, values: Sequence[Any], name: str, use: str) -> Column:
        """Reads values of several types, or of none that Arrow has."""
        parts = []
        for row, value in enumerate(values):
            reasons = [f"expected {_expected(use)}"]
            with suppress(*CONVERSION_ERRORS):
                read = self._convert(pa.array([value], from_pandas=True), name, use)
                reasons = [reason for mask, reason in read.faults if mask.any()]
                parts.append(read.values)
            if reasons:
                return Column(pa.nulls(len(values)), [(np.arange(len(values)) == row, reasons[0])])
        return Column(pa.concat_arrays(parts))

    def _convert(self, column: pa.Array, name: str, use: str) -> Column:
        kind = item_type(column.type) if use == "list" else value_type(column.type)
        readable = READABLE["string" if use == "date" else self._item_kinds[name] if use == "list" else use]
        if kind is None or family(kind) not in readable:
            return Column(pa.nulls(len(column)), [(valid_of(column), f"expected {_expected(use)}")])
        if use == "list":
            return read_lists(column, self._item_kinds[name], narrow_fractions=False)
        text = self._encoding.text
        if use == "date":
            return kuairand.read_dates(column)
        if text is None or use not in ("hex", "string"):
            return read_values(column, use, narrow_fractions=False)
        if family(kind) == "text":
            texts = read_values(column, "string", narrow_fractions=False)
            read = read_values(cleaned(texts.values, text.trim, text.missing), use, narrow_fractions=False)
            return Column(read.values, [*texts.faults, *read.faults])
        read = read_values(column, use, narrow_fractions=False)
        is_float = pa.types.is_floating(kind)
        return Column(read.values, [(valid_of(read.values), f"expected {A_TEXT}")]) if is_float else read

    def _out_of_range(self, values: pa.Array, name: str) -> Fault:
        """The fault of rows whose ids are outside of their table, or that lack a value."""
        if name not in self._sizes:
            return ~valid_of(values), "expected a number"
        size = self._sizes[name]
        reason = f"expected {'ids' if pa.types.is_list(values.type) else 'an id'} in [0, {size})"
        items = pc.list_flatten(values) if pa.types.is_list(values.type) else values
        bad = ~np.asarray(pc.fill_null(pc.and_(pc.greater_equal(items, 0), pc.less(items, size)), False))
        if not pa.types.is_list(values.type):
            return bad, reason
        mask = np.zeros(len(values), bool)
        mask[np.asarray(pc.list_parent_indices(values))[bad]] = True
        return mask, reason


def _columns_of(rows: Any, names: Sequence[str]) -> dict[str, pa.Array | Sequence[Any]]:
    """The named columns (B,) of raw rows. Raises ValueError where one is missing."""
    if isinstance(rows, list | tuple):
        return {name: _values_of(rows, name) for name in names}
    if isinstance(rows, pa.Table | pa.RecordBatch):
        there = rows.schema.names
    elif hasattr(rows, "columns") and hasattr(rows, "__arrow_c_stream__"):
        there = list(rows.columns)
    else:
        raise ValueError(f"rows are {quote(rows)}, expected a list of dicts, an Arrow table or a data frame")
    for name in names:
        if there.count(name) != 1:
            fault = "is there twice" if name in there else "is missing"
            raise ValueError(f"column {quote(name)} {fault}; the rows have {shorten(', '.join(map(str, there)))}")
    return {name: _array_of(rows[name]) for name in names}


def _values_of(rows: Sequence[Any], name: str) -> list[Any]:
    try:
        return [row[name] for row in rows]
    except (KeyError, TypeError, IndexError):
        for number, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise ValueError(f"row {number} is {quote(row)}, expected a dict") from None
            if name not in row:
                raise ValueError(f"row {number}: column {quote(name)} is missing; a missing value is None") from None
        raise


def _array_of(column: Any) -> pa.Array | list[Any]:
    """A column of a table or data frame; as a list where its values are of several types."""
    if isinstance(column, pa.Array | pa.ChunkedArray):
        return one_chunk(column)
    try:
        return one_chunk(pa.chunked_array(column))
    except CONVERSION_ERRORS:
        return list(column)


def _expected(use: str) -> str:
    return {"list": "a list of values", "date": kuairand.DATE}.get(use) or EXPECTED[use]


def _shown(value: Any) -> Any:
    return value.as_py() if isinstance(value, pa.Scalar) else value
