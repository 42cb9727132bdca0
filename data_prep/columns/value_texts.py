"""The text of a value of any type: the value of a categorical column of ``kind = "string"``.

A number is its decimal digits, without an exponent and without zeros at the end of a fraction; a boolean ``true`` or
``false``; a date ``2024-01-31``; a time of day ``23:59:59.25``; a timestamp ``2024-01-31 23:59:59.25``, with a ``Z``
(UTC) where it has a time zone. The text does not depend on the width, scale or unit in which the value is stored.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.columns.arrays import missing_of

TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""Ticks per second, by the unit of a time."""


def exact_texts(column: pa.Array) -> pa.StringArray:
    """Texts (B,) of integers, decimals, booleans, dates, times or timestamps; nulls kept."""
    kind = column.type
    if pa.types.is_decimal(kind):
        return by_value(column.cast(pa.decimal256(76, kind.scale)), _decimal_text)
    if pa.types.is_date(kind):
        return column.cast(pa.date32(), safe=False).cast(pa.string())
    if pa.types.is_timestamp(kind):
        text = _moment_texts(column, kind.unit, pa.timestamp("s"))
        return pc.binary_join_element_wise(text, "Z", "") if kind.tz else text
    if pa.types.is_time(kind):
        stored = column.cast(pa.int32()) if pa.types.is_time32(kind) else column
        return _moment_texts(stored, kind.unit, pa.time32("s"))
    return column.cast(pa.string())


def float_texts(column: pa.DoubleArray) -> pa.StringArray:
    """Texts (B,) of finite numbers, the shortest that parse to the same number; nulls kept."""
    texts = column.cast(pa.string())
    if not pc.any(pc.match_substring(texts, "e")).as_py():
        return texts
    return by_value(column, lambda value: np.format_float_positional(value, trim="-"))


def by_value(column: pa.Array, text_of: Callable[[Any], str]) -> pa.StringArray:
    """Texts (B,) by a function that is called once for each distinct value; nulls kept."""
    encoded = column.dictionary_encode()
    texts = [text_of(value) for value in encoded.dictionary.to_pylist()]
    return pa.array(texts, pa.string()).take(encoded.indices)


def _decimal_text(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _moment_texts(column: pa.Array, unit: str, whole_seconds: pa.DataType) -> pa.StringArray:
    """Texts of times (B,): Arrow's text of the whole seconds, and a fraction where it is not 0."""
    stored = column.cast(pa.int64()).fill_null(0).to_numpy()
    seconds, rest = np.divmod(stored, TICKS[unit])
    whole = pa.array(seconds, mask=missing_of(column))
    whole = whole.cast(pa.int32()) if pa.types.is_time(whole_seconds) else whole
    texts = whole.cast(whole_seconds).cast(pa.string())
    if not rest.any():
        return texts
    places = len(str(TICKS[unit])) - 1
    fractions = by_value(pa.array(rest), lambda ticks: f".{ticks:0{places}d}".rstrip("0") if ticks else "")
    return pc.binary_join_element_wise(texts, fractions, "")
