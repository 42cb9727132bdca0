"""Arrow columns of any type, converted to the type of their use in a layout."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.columns.arrays import Mask, valid_of
from data_prep.columns.hexadecimal import decode_hex
from data_prep.columns.rows import EXPECTED, LARGEST
from data_prep.columns.value_texts import exact_texts, float_texts

HEX = "^[0-9a-fA-F]{8}$"

EXACT = {16: 2**11, 32: 2**24, 64: 2**53}
"""By the bits of a float: below this magnitude every integer is exact; from it on, one float may stand for
several integers."""

INEXACT = "a float of {bits} bits holds integers exactly only below {limit}; store it as an integer"

NARROW = "a fraction of {bits} bits is another number than the same digits in other files' type; store it in one type"

Fault = tuple[Mask, str]
"""Mask of the bad rows (B,), and why they are bad."""

TEXTS = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_fixed_size_binary,
)
NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
LISTS = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)
FAMILIES = {
    "text": TEXTS,
    "number": NUMBERS,
    "boolean": (pa.types.is_boolean,),
    "date": (pa.types.is_date,),
    "time": (pa.types.is_time,),
    "timestamp": (lambda kind: pa.types.is_timestamp(kind) and kind.tz is None,),
    "timestamp with a time zone": (lambda kind: pa.types.is_timestamp(kind) and kind.tz is not None,),
    "nothing": (pa.types.is_null,),
}
"""Groups of types; within a group, the text of a value does not depend on the type."""

READABLE = {
    "hex": ("text", "nothing"),
    "string": tuple(FAMILIES),
    "integer": ("number", "boolean", "nothing"),
    "number": ("number", "boolean", "nothing"),
    "weight": ("number", "boolean", "nothing"),
    "binary": ("number", "boolean", "nothing"),
}
"""Families of types that each use can be read from."""


@dataclass(frozen=True)
class Column:
    """A column of B rows in the type of its use."""

    values: pa.Array
    """(B,): uint32 of a hexadecimal use, int64, float64, string or int8; of a list, lists of these. Null where missing;
    undefined where there is a fault."""
    faults: Sequence[Fault] = ()


def value_type(kind: pa.DataType) -> pa.DataType:
    """The type of the values, also where a dictionary encodes them."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def item_type(kind: pa.DataType) -> pa.DataType | None:
    """The type of a list's items (null where all lists are missing); None: not a list."""
    if pa.types.is_null(kind):
        return kind
    return value_type(kind.value_type) if any(is_kind(kind) for is_kind in LISTS) else None


def family(kind: pa.DataType) -> str | None:
    """The name of the family of a type; None: its values cannot be read."""
    names = (name for name, checks in FAMILIES.items() if any(is_kind(kind) for is_kind in checks))
    return next(names, None)


def is_narrow(kind: pa.DataType) -> bool:
    """Whether fractions of a type differ from the same digits in 64 bits."""
    return bool(pa.types.is_floating(kind)) and kind.bit_width < 64


def read_lists(column: pa.Array, use: str, narrow_fractions: bool) -> Column:
    """Converts a column of lists (B,) whose items have a use; a missing list becomes an empty one. Arguments as for
    :func:`read_values`."""
    if pa.types.is_null(column.type):
        column = column.cast(pa.list_(pa.null()))
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    items = read_values(pc.list_flatten(column), use, narrow_fractions)
    rows = np.repeat(np.arange(len(column)), lengths)
    # A list with a missing value makes its row a bad one.
    missing: Fault = (np.asarray(items.values.is_null()), "expected a list of values")
    faults = []
    for mask, reason in [*items.faults, missing]:
        bad = np.zeros(len(column), bool)
        bad[rows[mask]] = True
        faults.append((bad, reason))
    return Column(pa.ListArray.from_arrays(offsets, items.values), faults)


def read_values(column: pa.Array, use: str, narrow_fractions: bool) -> Column:
    """Converts a column of values (B,) for a use other than ``list``.

    Args:
        narrow_fractions: whether fractions of fewer than 64 bits may be values of a ``string``.
    """
    column = _plain(column)
    if use == "hex":
        return _hex(column)
    if use == "string":
        return _string(column, narrow_fractions)
    if use == "integer":
        return _integer(column)
    if use == "weight":
        return _weight(column)
    return _number(column) if use == "number" else _binary(column)


def _plain(column: pa.Array) -> pa.Array:
    """Decodes a dictionary; text becomes bytes, which may not be valid UTF-8."""
    if pa.types.is_dictionary(column.type):
        return _plain(column.dictionary).take(column.indices)
    return column.cast(pa.binary()) if family(column.type) == "text" else column


def _holds(mask: pa.Array) -> Mask:
    """Where a nullable condition (B,) holds."""
    return np.asarray(pc.fill_null(mask, False))


def _null_where(mask: Mask, column: pa.Array) -> pa.Array:
    return pc.if_else(pa.array(mask), pa.scalar(None, column.type), column) if mask.any() else column


def _texts(column: pa.BinaryArray) -> Column:
    try:
        return Column(column.cast(pa.string()))
    except pa.ArrowInvalid:
        bad = np.array([not _is_utf8(value) for value in column.to_pylist()])
        return Column(_null_where(bad, column).cast(pa.string()), [(bad, f"expected {EXPECTED['string']}")])


def _is_utf8(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return False
    return True


def _hex(column: pa.Array) -> Column:
    texts = _texts(column.cast(pa.binary()))
    bad = _holds(pc.invert(pc.match_substring_regex(texts.values, HEX)))
    digits = _null_where(bad, texts.values).cast(pa.binary()).cast(pa.binary(8))
    return Column(decode_hex(digits)[0], [*texts.faults, (bad, f"expected {EXPECTED['hex']}")])


def _string(column: pa.Array, narrow_fractions: bool) -> Column:
    if pa.types.is_binary(column.type):
        return _texts(column)
    if not pa.types.is_floating(column.type):
        return Column(exact_texts(column))
    floats = _Floats(column)
    faults = [floats.inexact, (floats.is_infinite, f"expected {EXPECTED['number']}")]
    texts = floats.integers().cast(pa.string())
    if floats.is_fraction.any():
        if is_narrow(column.type) and not narrow_fractions:
            faults.append((floats.is_fraction, NARROW.format(bits=column.type.bit_width)))
        fractions = pa.array(floats.values, mask=~floats.is_fraction)
        texts = pc.coalesce(texts, float_texts(fractions))
    return Column(texts, faults)


def _integer(column: pa.Array) -> Column:
    kind, expected = column.type, f"expected {EXPECTED['integer']}"
    if pa.types.is_floating(kind):
        floats = _Floats(column)
        return Column(floats.integers(), [floats.inexact, (floats.is_fraction | floats.is_infinite, expected)])
    if pa.types.is_decimal(kind):
        encoded = column.cast(pa.decimal256(76, kind.scale)).dictionary_encode()
        integers = pa.array([_as_integer(value) for value in encoded.dictionary.to_pylist()], pa.int64())
        values = integers.take(encoded.indices)
        return Column(values, [(np.asarray(values.is_null()) & valid_of(column), expected)])
    bad = np.zeros(len(column), bool)
    if pa.types.is_uint64(kind):
        bad = _holds(pc.greater(column, pa.scalar(2**63 - 1, kind)))
    return Column(_null_where(bad, column).cast(pa.int64()), [(bad, expected)])


def _as_integer(value: Decimal | None) -> int | None:
    is_one = value is not None and value == value.to_integral_value() and -(2**63) <= value < 2**63
    return int(value) if is_one and value is not None else None


def _number(column: pa.Array) -> Column:
    values = column.cast(pa.float64(), safe=False)
    numbers = values.fill_null(0.0).to_numpy()
    values = _null_where(np.isnan(numbers), values)
    return Column(values, [(np.abs(numbers) > LARGEST, f"expected {EXPECTED['number']}")])


def _weight(column: pa.Array) -> Column:
    read = _number(column)
    return Column(read.values, [*read.faults, (_holds(pc.less(read.values, 0.0)), f"expected {EXPECTED['weight']}")])


def _binary(column: pa.Array) -> Column:
    numbers = column.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy()
    missing = np.isnan(numbers)
    bad = ~missing & (numbers != 0.0) & (numbers != 1.0)
    values = pa.array(numbers == 1.0, mask=missing | bad).cast(pa.int8())
    return Column(values, [(bad, f"expected {EXPECTED['binary']}")])


class _Floats:
    """A column of floats (B,) in 64 bits; NaN is a missing value."""

    def __init__(self, column: pa.Array) -> None:
        bits = column.type.bit_width
        self.values = column.cast(pa.float64()).fill_null(np.nan).to_numpy()
        sizes = np.abs(self.values)
        self.is_infinite = np.isinf(self.values)
        self.is_fraction = (self.values != np.trunc(self.values)) & ~np.isnan(self.values)
        limit = EXACT[bits]
        is_inexact = (sizes >= limit) & ~self.is_infinite
        self.inexact: Fault = (is_inexact, INEXACT.format(bits=bits, limit=limit))
        self._is_integer = (sizes < limit) & ~self.is_fraction

    def integers(self) -> pa.Int64Array:
        """The integers (B,); null where the value is no integer or not exact."""
        return pa.array(np.where(self._is_integer, self.values, 0.0).astype(np.int64), mask=~self._is_integer)
