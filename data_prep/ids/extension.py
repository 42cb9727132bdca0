"""A vocabulary that goes on with the counts of a further period.

Known values keep their ids. A new value gets one when its count, over the periods since it was first seen, reaches a
minimum. A table with a capacity grows until it is full; from then on, the ids that were not seen for the longest time
are given to new values. Ids that are seen in the period stay.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.columns.arrays import Integers, one_chunk
from data_prep.columns.layout import Kind
from data_prep.ids.assignment import Learnt, most_frequent
from data_prep.ids.counting import Span
from data_prep.ids.keys import Keys, key_type, keys_of_values, values_of_keys
from data_prep.ids.vocabulary import RESERVED_IDS, UNSEEN_ID, Ids
from dlrm_mtl.location import Location
from dlrm_mtl.quoting import quote, shorten
from dlrm_mtl.storage.parquet import read_table

LEAST_WAITING = 1 << 16
"""Values that may wait for an id in any table without a capacity, so that a small table can grow."""


@dataclass(frozen=True)
class CountedValues:
    """Distinct values (N,) of a table, and how often and when they were seen."""

    keys: Keys
    values: pa.ChunkedArray
    """Integers, or texts as they stand in a vocabulary."""
    counts: Integers
    last_seen: Integers
    """Number, in the chain of data sets, of the last one that had the value."""

    @staticmethod
    def of_table(table: pa.Table, kind: Kind) -> "CountedValues":
        """From the columns ``value``, ``count`` and ``last_seen``."""
        counts, last_seen = (one_chunk(table[name]).to_numpy() for name in ("count", "last_seen"))
        return CountedValues(keys_of_values(table["value"], kind), table["value"], counts, last_seen)

    @staticmethod
    def none(kind: Kind) -> "CountedValues":
        """No values of a kind of column."""
        zeros = np.empty(0, np.int64)
        keys = np.empty(0, key_type(kind))
        return CountedValues(keys, pa.chunked_array([values_of_keys(keys, _NO_TEXTS, kind)]), zeros, zeros)

    def table(self) -> pa.Table:
        """The columns ``value``, ``count`` and ``last_seen``."""
        return pa.table({"value": self.values, "count": self.counts, "last_seen": self.last_seen})

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, positions: npt.NDArray[np.int64]) -> "CountedValues":
        """The values (M,) at these positions."""
        return CountedValues(
            self.keys[positions],
            self.values.take(pa.array(positions)),
            self.counts[positions],
            self.last_seen[positions],
        )

    def __add__(self, other: "CountedValues") -> "CountedValues":
        return CountedValues(
            np.concatenate([self.keys, other.keys]),
            pa.chunked_array([*self.values.chunks, *other.values.chunks], self.values.type),
            np.concatenate([self.counts, other.counts]),
            np.concatenate([self.last_seen, other.last_seen]),
        )


@dataclass(frozen=True)
class Extension:
    """A vocabulary after a period."""

    vocabulary: CountedValues
    """In the order of the ids: value number i has id i + 2."""
    waiting: CountedValues
    """Values without an id, ascending by key."""
    reset: Integers
    """Ids that had another value before, ascending. Ids beyond those before begin anew, too."""


@dataclass(frozen=True)
class NewIds:
    """The ids of a table that begin anew in a period."""

    reset: Integers
    """Ids (N,) that had another value before, ascending."""
    before: int
    """Ids before; those from here on begin anew, too."""

    def count(self, ids: Ids) -> int:
        """How many of these ids (B,) begin anew."""
        is_new = ids >= self.before
        if len(self.reset):
            places = np.minimum(self.reset.searchsorted(ids), len(self.reset) - 1)
            is_new |= self.reset[places] == ids
        return int(np.count_nonzero(is_new))


def read_counted(path: Location, kind: Kind) -> CountedValues:
    """Values from a parquet file with the columns ``value``, ``count`` and ``last_seen``. Raises ValueError where a
    column is missing."""
    table = read_table(path)
    for name in ("value", "count", "last_seen"):
        if name not in table.column_names:
            raise ValueError(f"{path}: column {quote(name)} is missing; the file has {', '.join(table.column_names)}")
    return CountedValues.of_table(table, kind)


def span_of(values: pa.Array, counts: Integers, kind: Kind) -> Span:
    """Counts of distinct values (N,) in memory: integers or texts as they stand in a vocabulary, no nulls."""
    keys = keys_of_values(pa.chunked_array([values]), kind)
    order = np.argsort(keys)
    texts = values.take(pa.array(order)) if kind == "string" else pa.nulls(len(keys), pa.string())
    return Span(keys[order].astype(np.uint64), counts[order], texts)


def extend_vocabulary(
    vocabulary: CountedValues,
    waiting: CountedValues,
    spans: Iterable[Span],
    kind: Kind,
    min_count: int,
    capacity: int,
    number: int,
    name: str = "",
) -> Extension:
    """A vocabulary after a further period. Memory holds the vocabulary, the values that wait, and one span.

    Args:
        vocabulary: in the order of the ids; empty in the first period.
        waiting: values without an id, ascending by key.
        spans: counts of the period, ascending by key; iterated twice.
        min_count: count from which on a value gets an id.
        capacity: maximum number of ids, reserved ones included, not below those that there are; 0: none. As many values
            may wait for an id, or as many as there are ids (at least ``LEAST_WAITING``) without a capacity.
        number: of the period in the chain, from 0.
        name: of the table, for messages.

    Raises:
        ValueError: two strings have the same 64-bit hash.
    """
    known = _KnownValues(vocabulary, waiting, kind, name)
    counts, last_seen = vocabulary.counts.copy(), vocabulary.last_seen.copy()
    candidates = 0
    for span in spans:
        places, seen, others = known.split(span)
        counts[places] += seen
        last_seen[places] = number
        candidates += int(np.count_nonzero(others.counts >= min_count))
    before = CountedValues(vocabulary.keys, vocabulary.values, counts, last_seen)
    growth = min(candidates, capacity - RESERVED_IDS - len(before) if capacity else candidates)
    # A stable sort: of those seen at the same time, the smaller id is given away first.
    replaceable = np.flatnonzero(last_seen != number)
    replaceable = replaceable[np.argsort(last_seen[replaceable], kind="stable")]
    admitted = min(candidates, growth + len(replaceable))
    may_wait = capacity or max(len(before) + growth + RESERVED_IDS, LEAST_WAITING)
    new = CountedValues.none(kind)
    waits = np.ones(len(waiting), bool)
    for span in spans:
        _, _, others = known.split(span)
        waits[known.places_waiting(others.keys)] = False
        new = _most_frequent(new + _seen_in(others, kind, number), admitted + may_wait)
    chosen = most_frequent(new.counts, admitted)
    ranked = chosen[np.argsort(-new.counts[chosen], kind="stable")]
    places = replaceable[: admitted - growth]
    order = np.arange(len(before))
    order[places] = len(before) + ranked[growth:]
    order = np.concatenate([order, len(before) + np.sort(ranked[:growth])])
    rest = _most_frequent(new.take(np.setdiff1d(np.arange(len(new)), chosen)), may_wait)
    older = waiting.take(np.flatnonzero(waits))
    latest = np.lexsort([-older.counts, -older.last_seen])[: may_wait - len(rest)]
    still = rest + older.take(latest)
    return Extension((before + new).take(order), still.take(np.argsort(still.keys)), np.sort(places) + RESERVED_IDS)


class _KnownValues:
    """Finds the values of a span among those with an id and those that wait for one."""

    def __init__(self, vocabulary: CountedValues, waiting: CountedValues, kind: Kind, name: str) -> None:
        order = np.argsort(vocabulary.keys)
        self._learnt = Learnt(vocabulary.keys[order], order)
        self._waiting = Learnt(waiting.keys)
        self._vocabulary_values = vocabulary.values
        self._waiting_values = waiting.values
        self._waiting_counts = waiting.counts
        self._kind = kind
        self._name = name

    def split(self, span: Span) -> tuple[Integers, Integers, Span]:
        """Places in the vocabulary (K,) and counts (K,) of the values that it has; and the others, with the counts
        since they were first seen."""
        keys = span.keys.astype(key_type(self._kind), copy=False)
        places, is_known = _find(self._learnt, keys)
        self._check_texts(self._vocabulary_values, places, span.values.filter(pa.array(is_known)))
        is_new = ~is_known
        values, counts = span.values.filter(pa.array(is_new)), span.counts[is_new]
        waiting, is_waiting = _find(self._waiting, keys[is_new])
        self._check_texts(self._waiting_values, waiting, values.filter(pa.array(is_waiting)))
        counts[is_waiting] += self._waiting_counts[waiting]
        return places, span.counts[is_known], Span(keys[is_new], counts, values)

    def places_waiting(self, keys: Keys) -> Integers:
        """Places (K,) of the keys that wait."""
        return _find(self._waiting, keys)[0]

    def _check_texts(self, values: pa.ChunkedArray, places: Integers, texts: pa.Array) -> None:
        if self._kind != "string":
            return
        before = values.take(pa.array(places))
        differ = pc.not_equal(before, texts)
        if pc.any(differ).as_py():
            at = pc.index(differ, True).as_py()
            one, other = (shorten(some[at].as_py(), 90) for some in (before, texts))
            raise ValueError(f"table {quote(self._name)}: {one} and {other} have the same 64-bit hash; rename one")


def _find(learnt: Learnt, keys: Keys) -> tuple[Integers, npt.NDArray[np.bool_]]:
    """Places (K,) of the keys that are there, and which (N,) are."""
    ids = learnt.ids(keys)
    is_there = ids != UNSEEN_ID
    return ids[is_there].astype(np.int64) - RESERVED_IDS, is_there


def _seen_in(span: Span, kind: Kind, number: int) -> CountedValues:
    values = pa.chunked_array([values_of_keys(span.keys, span.values, kind)])
    return CountedValues(span.keys, values, span.counts, np.full(len(span.keys), number, np.int64))


def _most_frequent(values: CountedValues, number: int) -> CountedValues:
    return values if len(values) <= number else values.take(most_frequent(values.counts, number))


_NO_TEXTS = pa.array([], pa.string())
