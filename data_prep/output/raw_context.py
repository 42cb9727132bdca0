"""Clusters and texts of segments of evaluation rows, from the raw columns of a log.

The values of a segment and the known clusters are settled only when all rows have been read. Until then evaluation
rows are kept in files of the work directory, with the columns of ``fields``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.columns.arrays import numbers, one_chunk, valid_of
from data_prep.columns.arrow_columns import read_values
from data_prep.columns.hexadecimal import hex_text
from data_prep.columns.layout import DAY, Layout
from data_prep.ids.keys import hash_strings
from data_prep.output.segment_values import MAX_DISTINCT
from data_prep.sources.times import Times
from dlrm_mtl.files import sha256, write_whole
from dlrm_mtl.quoting import quote
from dlrm_mtl.segments import cluster_column, segment_column


@dataclass(frozen=True)
class RawContext:
    """The columns of a log that are kept for evaluation rows."""

    cluster: str
    """Name of the cluster; empty: none."""
    cluster_column: str
    segments: Mapping[str, str]
    """Raw column of each segment, by the segment's name."""
    times: Times | None
    """Times of the rows, for the segment ``day``; None: there are no times, or a column is the segment ``day``."""

    @staticmethod
    def of(layout: Layout, times: Times | None) -> "RawContext | None":
        """The columns that a layout keeps; None: it keeps none."""
        times = None if DAY in layout.segments else times
        if not layout.cluster and not layout.segments and times is None:
            return None
        segments = {name: layout.column_of(name) for name in layout.segments}
        return RawContext(layout.cluster, layout.column_of(layout.cluster), segments, times)

    @property
    def fields(self) -> list[pa.Field]:
        """Columns of the files in the work directory, beside features and labels: texts of segments, keys of clusters,
        times."""
        fields = [pa.field(segment_column(name), pa.string()) for name in self.segments]
        if self.cluster:
            fields.append(pa.field(cluster_column(self.cluster), pa.int64()))
        if self.times is not None:
            fields.append(pa.field(segment_column(DAY), pa.float64() if self.times.are_numbers else pa.int64()))
        return fields

    def columns(self, table: pa.Table) -> dict[str, pa.Array]:
        """The cluster, segment and time columns (B,) of evaluation rows.

        Raises:
            ValueError: a segment has too many values, or a number is too large to be exact.
        """
        columns: dict[str, pa.Array] = {}
        for name, column in self.segments.items():
            texts = texts_of(one_chunk(table[column]), column)
            if (distinct := pc.count_distinct(texts).as_py()) > MAX_DISTINCT:
                raise ValueError(
                    f"segment {quote(name)}: {distinct} values among {len(texts)} evaluation rows, expected at most"
                    f" {MAX_DISTINCT}; a column such as a user's id is a cluster"
                )
            columns[segment_column(name)] = texts
        if self.cluster:
            columns[cluster_column(self.cluster)] = self.keys(table)
        if self.times is not None:
            times = self.times.of(table)
            columns[segment_column(DAY)] = pa.array(times.astype(np.float64) if self.times.are_numbers else times)
        return columns

    def keys(self, table: pa.Table) -> pa.Int64Array:
        """Keys of the rows' clusters (B,), null where the cluster has no value."""
        return cluster_keys(texts_of(one_chunk(table[self.cluster_column]), self.cluster_column))


def texts_of(column: pa.Array, name: str) -> pa.StringArray:
    """The text (B,) of each value of a parsed column, see :mod:`data_prep.columns.value_texts`; nulls kept.

    Raises:
        ValueError: a number is too large to be exact.
    """
    if pa.types.is_string(column.type):
        return column
    if pa.types.is_uint32(column.type):
        texts = hex_text(numbers(column, np.uint32)).cast(pa.string())
        return pc.if_else(pa.array(valid_of(column)), texts, pa.scalar(None, pa.string()))
    read = read_values(column, "string", narrow_fractions=True)
    for rows, reason in read.faults:
        if rows.any():
            raise ValueError(f"column {quote(name)}: {quote(column[int(rows.argmax())].as_py())}, {reason}")
    return read.values


def cluster_keys(texts: pa.StringArray) -> pa.Int64Array:
    """Keys (B,) of clusters: 64-bit hashes of their texts, the same in every data set."""
    return pa.array(hash_strings(texts).view(np.int64), mask=~valid_of(texts))


class SeenClusters:
    """Collects the clusters of a log segment's training rows in a file of sorted keys.

    Args:
        path: the file, which :meth:`finish` writes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys = np.empty(0, np.int64)

    def add(self, keys: pa.Int64Array) -> None:
        """Adds the keys (B,) of rows."""
        self._keys = np.union1d(self._keys, distinct_keys(keys))

    def finish(self) -> dict[Path, str]:
        """Writes the keys; returns the file with its checksum."""
        with write_whole(self._path) as temporary, temporary.open("wb") as file:
            np.save(file, self._keys, allow_pickle=False)
        return {self._path: sha256(self._path)}


def distinct_keys(keys: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """The distinct keys (U,) that are not null, sorted."""
    return np.unique(keys.drop_null().to_numpy())
