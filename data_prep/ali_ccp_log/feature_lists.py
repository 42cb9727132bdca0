"""Parses Ali-CCP's lists of features to typed columns.

A list is ``FIELD \\x02 ID \\x03 VALUE`` (without the spaces), joined by ``\\x01``. All lists of a block are parsed at
once: with commas and line ends as separators they are CSV text of three columns.
"""

import re
from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from data_prep.columns.arrays import numbers, one_chunk
from data_prep.columns.layout import CategoricalColumn
from data_prep.sources.delimited import integer_of

END, FIELD_END, ID_END, LIST_END = 1, 2, 3, 10

TO_CSV = bytes.maketrans(b"\x01\x02\x03", b"\n,,")

ALLOWED = b"0123456789.+-eE_\x01\x02\x03\n"
"""The CSV reader would also accept spaces and hexadecimal numbers."""

ITEM = re.compile(r"([^\x02\x03]*)\x02([^\x02\x03]*)\x03([^\x02\x03]*)")
VALUE = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")

READ = pa.csv.ReadOptions(column_names=["field", "id", "value"], use_threads=False, block_size=1 << 30)
PARSE = pa.csv.ParseOptions(quote_char=False, ignore_empty_lines=False)
CONVERT = pa.csv.ConvertOptions(
    column_types={"field": pa.dictionary(pa.int32(), pa.string()), "id": pa.int64(), "value": pa.float64()},
    null_values=[],
)


class FeatureLists:
    """Parses feature lists of one kind of file.

    Args:
        features: the features to read; ``column`` is a field. The field of a one-hot feature may occur once in a list.
        known: all fields that may occur in a list.
    """

    def __init__(self, features: Sequence[CategoricalColumn], known: Collection[str]) -> None:
        self._features = features
        self._known = frozenset(known)
        self._one_hot = {feature.column for feature in features if not feature.multi_hot}

    def parse(self, lists: pa.StringArray, sizes: pa.StringArray) -> dict[str, pa.Array] | None:
        """The columns of lists (B,), whose sizes (B,) must be those that the file states: int64 with nulls, or lists of
        int64 for a multi-hot feature. None where any list is bad."""
        filled = np.flatnonzero(pc.binary_length(lists))
        text = _lines(lists if len(filled) == len(lists) else lists.take(pa.array(filled)))
        if text.translate(None, ALLOWED):
            return None
        # Separators are the only control characters that are allowed.
        separators = np.frombuffer(text, np.uint8)
        separators = separators[separators <= LIST_END]
        if len(separators) % 3:
            return None
        firsts, seconds, thirds = separators.reshape(-1, 3).T
        if (firsts != FIELD_END).any() or (seconds != ID_END).any() or ((thirds != END) & (thirds != LIST_END)).any():
            return None
        lengths = np.zeros(len(lists), np.int64)
        lengths[filled] = np.diff(np.flatnonzero(thirds == LIST_END), prepend=-1)
        if not pc.all(pc.equal(sizes, pa.array(lengths).cast(pa.string()))).as_py():
            return None
        table = _read(text)
        if table is None:
            return None
        fields = one_chunk(table["field"])
        if not self._known.issuperset(fields.dictionary.to_pylist()):
            return None
        return self._columns(fields, numbers(one_chunk(table["id"]), np.int64), lengths)

    def fault(self, text: str, size: str) -> tuple[str, str, str] | None:
        """Column, value and reason of the first fault of one list."""
        items = text.split("\x01") if text else []
        seen: dict[str, str] = {}
        for item in items:
            parts = ITEM.fullmatch(item)
            if parts is None:
                return "feature_list", item, "expected a field, \\x02, an id, \\x03 and a number"
            field, number, value = parts.groups()
            if field not in self._known:
                return "feature_list", field, "a field that this file does not have"
            if integer_of(number) is None:
                return field, number, "expected a 64-bit integer"
            if not VALUE.fullmatch(value) or not np.isfinite(float(value)):
                return field, value, "expected a finite number"
            if field in self._one_hot and field in seen:
                return field, number, f"a second id of a one-hot field, the first is {seen[field]}"
            seen[field] = number
        if size != str(len(items)):
            return "feature_num", size, f"the list has {len(items)} features"
        return None

    def _columns(
        self, fields: pa.DictionaryArray, ids: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
    ) -> dict[str, pa.Array] | None:
        codes = numbers(fields.indices, np.int32)
        names = fields.dictionary.to_pylist()
        rows = np.repeat(np.arange(len(lengths)), lengths)
        columns: dict[str, pa.Array] = {}
        for feature in self._features:
            column = feature.column
            chosen = np.flatnonzero(codes == (names.index(column) if column in names else -1))
            owners = rows[chosen]
            if feature.multi_hot:
                columns[column] = lists_of(pa.array(ids[chosen]), np.bincount(owners, minlength=len(lengths)))
                continue
            if (owners[1:] == owners[:-1]).any():
                return None
            values = np.zeros(len(lengths), np.int64)
            values[owners] = ids[chosen]
            missing = np.ones(len(lengths), bool)
            missing[owners] = False
            columns[column] = pa.array(values, mask=missing)
        return columns


def lists_of(values: pa.Array, lengths: npt.NDArray[np.integer]) -> pa.ListArray:
    """Lists (B,) of so many values each."""
    # Raises where the values are too many for 32-bit offsets.
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, values)


def _lines(texts: pa.StringArray) -> bytes:
    """The texts, each with a line end."""
    joined = pc.binary_join_element_wise(texts, "", "\n")
    if not len(joined):
        return b""
    _, offsets, data = joined.buffers()
    return data[: int(np.frombuffer(offsets, np.int32)[len(joined)])].to_pybytes()


def _read(text: bytes) -> pa.Table | None:
    if not text:
        return pa.table({name: pa.array([], kind) for name, kind in CONVERT.column_types.items()})
    try:
        table = pa.csv.read_csv(pa.BufferReader(text.translate(TO_CSV)), READ, PARSE, CONVERT)
    except pa.ArrowInvalid:
        return None
    return table if np.isfinite(numbers(one_chunk(table["value"]), np.float64)).all() else None
