"""How often each key occurs: counted segment by segment, spilled to disk, merged table by table in bounded memory.

A run is the counts of one segment: an Arrow IPC file with one record batch per embedding table, ascending by key. The
merge reads the runs of a table span by span of the keys, so that memory holds one span at a time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

from data_prep.columns.arrays import numbers, one_chunk, valid_of
from data_prep.columns.layout import Layout
from data_prep.columns.raw_columns import values_of
from data_prep.ids.keys import Keys, key_type, keys_of
from data_prep.ids.vocabulary import grouped
from dlrm_mtl.quoting import quote, shorten

SPAN_ENTRIES = 1 << 24
"""Entries, over all runs, that are merged at a time: about 192 MiB without temporaries, more with strings."""

PENDING_KEYS = 1 << 22
"""Keys of a table that are collected before they are counted: 32 MiB."""

RUN = pa.schema([("key", pa.uint64()), ("count", pa.uint32()), ("value", pa.string())])


class KeyCounter:
    """Counts the keys of one segment; memory grows with its distinct keys."""

    def __init__(self, layout: Layout) -> None:
        self._tables = layout.tables
        self._keys = {name: _KeyCounts(key_type(features[0].kind)) for name, features in self._tables.items()}
        self._strings: dict[str, list[pa.Table]] = {name: [] for name in self._tables}

    def add(self, table: pa.Table) -> None:
        """Counts rows (all of them training rows)."""
        for name, features in self._tables.items():
            for feature in features:
                values, _ = values_of(table, feature)
                if feature.kind == "string":
                    self._strings[name].append(_count_strings([pa.table({"value": values, "count": _ones(values)})]))
                else:
                    keys = keys_of(values)
                    self._keys[name].add(keys[valid_of(values)] if values.null_count else keys)

    def write(self, path: Path) -> None:
        """Writes the sorted keys and their counts, one record batch per table, to be merged with other segments'."""
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, RUN) as writer:
            for name, features in self._tables.items():
                if features[0].kind == "string":
                    writer.write_batch(_string_run(self._strings[name]))
                else:
                    keys, counts = self._keys[name].counted()
                    writer.write_batch(_batch(keys, counts, pa.nulls(len(keys), pa.string())))


class _KeyCounts:
    """Keys and how often each occurs; memory grows with the distinct ones."""

    def __init__(self, kind: type[np.unsignedinteger]) -> None:
        self._keys: Keys = np.empty(0, kind)
        self._counts = np.empty(0, np.int64)
        self._pending: list[Keys] = []
        self._pending_size = 0

    def add(self, keys: Keys) -> None:
        """Counts each key once."""
        self._pending.append(keys)
        self._pending_size += len(keys)
        # Merged once the new keys are as many as the old ones, so that each is sorted O(log blocks) times.
        if self._pending_size >= max(PENDING_KEYS, len(self._keys)):
            self.counted()

    def counted(self) -> tuple[Keys, np.ndarray]:
        """The distinct keys, ascending, and their counts."""
        if self._pending:
            keys, counts = np.unique(np.concatenate(self._pending), return_counts=True)
            self._pending, self._pending_size = [], 0
            if len(self._keys):
                both = np.concatenate([self._keys, keys]), np.concatenate([self._counts, counts])
                keys, counts = grouped(*both)
            self._keys, self._counts = keys, counts
        return self._keys, self._counts


def _ones(values: pa.Array) -> pa.Array:
    return pa.array(np.ones(len(values), np.int64))


def _count_strings(tables: Sequence[pa.Table]) -> pa.Table:
    """Distinct strings and the sums of their counts."""
    counts = pa.concat_tables(tables).group_by("value").aggregate([("count", "sum")])
    counts = counts.rename_columns(["value", "count"])
    return counts.filter(pc.is_valid(counts["value"]))


def _string_run(tables: Sequence[pa.Table]) -> pa.RecordBatch:
    if not tables:
        return _batch(np.empty(0, np.uint64), np.empty(0, np.int64), pa.array([], pa.string()))
    counts = _count_strings(tables).combine_chunks()
    values = counts["value"].combine_chunks()
    keys = keys_of(values)
    order = np.argsort(keys)
    return _batch(keys[order], np.asarray(counts["count"])[order], values.take(pa.array(order)))


def _batch(keys: Keys, counts: np.ndarray, values: pa.Array) -> pa.RecordBatch:
    return pa.record_batch([keys.astype(np.uint64), counts.astype(np.uint32), values], schema=RUN)


@dataclass(frozen=True)
class Span:
    """Counts of the keys of a span, ascending and distinct."""

    keys: Keys
    counts: np.ndarray
    values: pa.Array
    """Strings; null where the keys are no hashes."""


def merge_runs(paths: Sequence[Path], table: int, name: str) -> Iterator[Span]:
    """Sums the counts of one table (its number within a run) over all runs; yields span after span, ascending.

    Raises:
        ValueError: two strings of one table have the same 64-bit hash.
    """
    borders = _borders(paths, table)
    for low, high in pairwise(borders):
        parts = []
        for path in paths:
            batch = _open(path, table)
            start, stop = np.searchsorted(numbers(batch["key"], np.uint64), np.array([low, high], np.uint64))
            # The last border is the largest key.
            stop = batch.num_rows if high == borders[-1] else stop
            if stop > start:
                parts.append(batch.slice(start, stop - start))
        if parts:
            yield _merge(pa.Table.from_batches(parts), name)


def _borders(paths: Sequence[Path], table: int) -> list[int]:
    """Keys that cut the entries of all runs into spans of about ``SPAN_ENTRIES``, from a sample of each run's keys."""
    samples = []
    entries = 0
    for path in paths:
        keys = numbers(_open(path, table)["key"], np.uint64)
        if len(keys):
            entries += len(keys)
            samples.append(np.append(keys[:: SPAN_ENTRIES // 256], keys[-1]))
    if not entries:
        return []
    sample = np.sort(np.concatenate(samples))
    spans = -(-entries // SPAN_ENTRIES)
    inner = sample[np.arange(1, spans) * len(sample) // spans]
    last = int(sample[-1])
    return [0, *(key for key in np.unique(inner).tolist() if 0 < key < last), last]


def _open(path: Path, table: int) -> pa.RecordBatch:
    return pa.ipc.open_file(pa.memory_map(str(path))).get_batch(table)


def _merge(table: pa.Table, name: str) -> Span:
    keys = numbers(one_chunk(table["key"]), np.uint64)
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    counts = np.add.reduceat(numbers(one_chunk(table["count"]), np.uint32).astype(np.int64)[order], first)
    values = table["value"].combine_chunks()
    if values.null_count == len(values):
        return Span(keys[first], counts, pa.nulls(len(first), pa.string()))
    values = values.take(pa.array(order))
    same = np.flatnonzero(keys[1:] == keys[:-1])
    differ = pc.not_equal(values.take(pa.array(same)), values.take(pa.array(same + 1)))
    if pc.any(differ).as_py():
        at = int(same[pc.index(differ, True).as_py()])
        one, other = (shorten(values[place].as_py(), 90) for place in (at, at + 1))
        raise ValueError(f"table {quote(name)}: {one} and {other} have the same 64-bit hash; rename one")
    return Span(keys[first], counts, values.take(pa.array(first)))
