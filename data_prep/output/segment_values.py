"""The values of a segment, from the texts of evaluation rows: the most frequent ones, ``other`` and ``missing``."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.columns.arrays import missing_of
from data_prep.columns.layout import USER
from dlrm_mtl.quoting import quote
from dlrm_mtl.segments import MAX_NAME, Segment

KEPT = 64
"""Most frequent values that a segment keeps."""

MAX_DISTINCT = 10_000
"""Distinct values that a column of a segment may have."""

OTHER = "other"
"""Value for all texts that are not kept: rarer ones, empty, too long or not printable."""
MISSING = "missing"
"""No value."""

KNOWN, NEW = "known", "new"
"""Values of the segment ``user``."""


def are_among(keys: npt.NDArray[np.int64], sorted_keys: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which keys (B,) are in a sorted array (U,). The array may be memory-mapped and is not copied."""
    if not len(sorted_keys):
        return np.zeros(len(keys), bool)
    return sorted_keys[np.minimum(np.searchsorted(sorted_keys, keys), len(sorted_keys) - 1)] == keys


def known_or_new(keys: pa.Int64Array, known: npt.NDArray[np.int64]) -> pa.StringArray:
    """Texts (B,) of the segment ``user``: ``known`` where the cluster has training rows, else ``new``; null without
    key.

    Args:
        known: (U,) sorted keys of the clusters with training rows.
    """
    is_known = are_among(keys.fill_null(0).to_numpy(), known)
    return pa.array(np.where(is_known, KNOWN, NEW), pa.string(), mask=missing_of(keys))


@dataclass(frozen=True)
class SegmentValues:
    """The values of a segment, and how many rows each has."""

    segment: Segment
    rows: dict[str, int]
    """Evaluation rows of each value, in the segment's order."""
    in_other: int
    """How many distinct values are in ``other``."""

    def as_record(self) -> dict[str, Any]:
        """The segment's entry in ``source`` of the schema."""
        return {"rows": self.rows, "values_in_other": self.in_other}


class SegmentValueCounter:
    """Counts the values of a segment. The segment ``user`` always has both of its values."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._rows: Counter[str] = Counter(dict.fromkeys((KNOWN, NEW), 0) if name == USER else ())

    def add(self, texts: pa.Array, rows: npt.NDArray[np.int64] | None = None) -> None:
        """Counts a column (B,) of strings; null: no value.

        Args:
            rows: (B,) how many rows each string counts for; by default one.

        Raises:
            ValueError: there are too many values.
        """
        encoded = texts.fill_null(MISSING).dictionary_encode()
        counts = np.bincount(encoded.indices, rows, len(encoded.dictionary)).astype(np.int64)
        for text, count in zip(encoded.dictionary.to_pylist(), counts.tolist(), strict=True):
            self._rows[text] += count
        if len(self._rows) > MAX_DISTINCT:
            raise ValueError(
                f"segment {quote(self._name)}: more than {MAX_DISTINCT} values among evaluation rows, expected a column"
                " of few; a column such as a user's id is a cluster"
            )

    def values(self) -> SegmentValues:
        """The most frequent values, sorted by number or by text, then ``other`` and ``missing`` where rows have them.
        At least one row must have been counted."""
        own = [text for text in self._rows if text not in (OTHER, MISSING) and _is_name(text)]
        frequent = sorted(own, key=lambda text: (-self._rows[text], text))[:KEPT]
        in_other = [text for text in self._rows if text not in frequent and text != MISSING]
        rows = {text: self._rows[text] for text in _in_order(frequent)}
        if in_other:
            rows[OTHER] = sum(self._rows[text] for text in in_other)
        if MISSING in self._rows:
            rows[MISSING] = self._rows[MISSING]
        return SegmentValues(Segment(self._name, tuple(rows)), rows, len(in_other))


def encode(segment: Segment, texts: pa.Array) -> npt.NDArray[np.int32]:
    """Codes (B,) of a column of strings that was counted; null: no value."""
    codes = pc.index_in(texts.fill_null(MISSING), value_set=pa.array(segment.values, texts.type))
    if codes.null_count:
        codes = codes.fill_null(segment.values.index(OTHER))
    return np.asarray(codes, dtype=np.int32)


def _is_name(text: str) -> bool:
    return 0 < len(text) <= MAX_NAME and text.isprintable()


def _in_order(texts: list[str]) -> list[str]:
    try:
        return sorted(texts, key=lambda text: (float(text), text))
    except ValueError:
        return sorted(texts)
