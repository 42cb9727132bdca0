"""The context of evaluation rows: their clusters and segments.

Notation: B rows, S segments.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dlrm_mtl.mixing import mix
from dlrm_mtl.quoting import quote, shorten
from dlrm_mtl.schema import Schema
from dlrm_mtl.segments import MAX_VALUES, Segment, cluster_column, segment_column

Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Context:
    """The meaning of the 1 + S columns of ``MultiTaskBatch.context``.

    Column 0 is the key of the row's cluster. All rows of a cluster have the same key; a row without a cluster has a key
    of its own, by its position in the split. All 64 bits of a key are mixed, so that ``key % K`` distributes clusters
    evenly over K buckets (unsigned, or signed with a remainder that is never negative, as in Python, NumPy and torch).
    Column 1 + s is the code of segment s: the row has the value ``segments[s].values[code]``.
    """

    cluster: str
    """Name of the raw column; empty: rows are taken as independent."""
    segments: tuple[Segment, ...]

    @classmethod
    def of(cls, schema: Schema, names: Sequence[str] = ()) -> "Context":
        """The context with some segments.

        Args:
            names: segments that the data set keeps, or categorical features of one id per row and at most 256 ids,
                whose values are their ids. None: all that the data set keeps.

        Raises:
            ValueError: there is no segment of such a name, or it is named twice.
        """
        kept = {segment.name: segment for segment in schema.segments}
        possible = {
            feature.name: feature.cardinality
            for feature in schema.categorical
            if not feature.multi_hot and feature.cardinality <= MAX_VALUES
        }
        chosen = []
        for name in names:
            if name in kept:
                chosen.append(kept[name])
            elif name in possible:
                chosen.append(Segment(name, tuple(map(str, range(possible[name])))))
            else:
                there_is = ", ".join(dict.fromkeys([*kept, *possible])) or "none"
                raise ValueError(f"segments: the data set has no segment {quote(name)}; there is {shorten(there_is)}")
            if names.count(name) > 1:
                raise ValueError(f"segments: {quote(name)} is named twice")
        return cls(schema.cluster, tuple(chosen) if names else schema.segments)

    def columns(self, schema: Schema) -> list[str]:
        """Columns of the shards that hold the context: of the cluster, if there is one, then of each segment."""
        kept = {segment.name for segment in schema.segments}
        of_cluster = [cluster_column(self.cluster)] if self.cluster else []
        return of_cluster + [segment_column(s.name) if s.name in kept else s.name for s in self.segments]

    def encode(self, schema: Schema, table: pa.Table, positions: npt.NDArray[np.int64]) -> Codes:
        """The context of some rows.

        Args:
            table: B rows with :meth:`columns`.
            positions: (B,) of each row in its split, or -1 for padding.

        Returns:
            (B, 1 + S) int64, undefined for padding.
        """
        context = np.empty((len(table), 1 + len(self.segments)), dtype=np.int64)
        # Negative numbers: no writer uses them for clusters.
        numbers = ~positions
        columns = self.columns(schema)
        if self.cluster:
            clusters = table[columns.pop(0)]
            missing = clusters.is_null().to_numpy()
            numbers = np.where(missing, numbers, clusters.cast(pa.int64(), safe=False).fill_null(0).to_numpy())
        context[:, 0] = mix(numbers.view(np.uint64)).view(np.int64)
        for index, column in enumerate(columns, 1):
            context[:, index] = table[column].to_numpy()
        return context

    def padding(self, schema: Schema, rows: int) -> dict[str, pa.Array]:
        """Context columns of padding rows, except those that are features."""
        of_features = {feature.name for feature in schema.categorical}
        codes = pa.array(np.zeros(rows, dtype=np.int32))
        padding = {column: codes for column in self.columns(schema) if column not in of_features}
        return {**padding, cluster_column(self.cluster): pa.nulls(rows, pa.int64())} if self.cluster else padding
