"""Columns of a table to batches: one conversion per table, then slices."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dlrm_mtl.data.batch import MultiTaskBatch
from dlrm_mtl.data.context import Context
from dlrm_mtl.module_names import escape
from dlrm_mtl.schema import Schema

Array = npt.NDArray[Any]


class Rows:
    """Decoded rows of a data set, from which batches are cut.

    Args:
        table: the schema's columns.
        positions: (rows,) int64 position of each row in its split, or -1 for padding.
        context: clusters and segments of the batches, whose columns are in the table, too; None: neither.
    """

    def __init__(self, schema: Schema, table: pa.Table, positions: Array, context: Context | None = None) -> None:
        table = table.combine_chunks()
        self._keys = [escape(feature.name) for feature in schema.categorical]
        largest = max((feature.cardinality for feature in schema.categorical), default=0)
        # Half the bytes to exchange between ranks; kernels widen them.
        self._id_type = np.int32 if largest <= 1 << 31 else np.int64
        self._features = [_bags(table[feature.name], feature.multi_hot) for feature in schema.categorical]
        self._dense = np.empty((len(table), len(schema.dense)), dtype=np.float32)
        for index, column in enumerate(schema.dense):
            self._dense[:, index] = _flat_array(table[column])
        self._labels = np.empty((len(table), len(schema.tasks)), dtype=np.float32)
        self._weights = np.empty_like(self._labels)
        for index, task in enumerate(schema.tasks):
            weights = self._weights[:, index]
            weights[:] = positions >= 0
            for factor in (task.given, task.weight):
                if factor:
                    weights *= _flat_array(table[factor])
            self._labels[:, index] = _flat_array(table[task.label]) * (weights > 0)
        self._positions = positions
        nothing = np.empty((len(table), 0), dtype=np.int64)
        self._context = nothing if context is None else context.encode(schema, table, positions)

    def __len__(self) -> int:
        return len(self._positions)

    def batch(self, start: int, stop: int) -> MultiTaskBatch:
        """Rows ``[start, stop)`` as a batch that owns its memory."""
        bags = [_slice(values, offsets, start, stop) for values, offsets in self._features]
        values = np.concatenate([ids for ids, _ in bags]).astype(self._id_type, copy=False)
        lengths = np.concatenate([counts for _, counts in bags])
        sparse = KeyedJaggedTensor(
            keys=self._keys,
            values=torch.from_numpy(values),
            lengths=torch.from_numpy(lengths),
            stride=stop - start,
        )
        return MultiTaskBatch(
            sparse=sparse,
            dense=torch.from_numpy(self._dense[start:stop].copy()),
            labels=torch.from_numpy(self._labels[start:stop].copy()),
            weights=torch.from_numpy(self._weights[start:stop].copy()),
            rows=torch.from_numpy(self._positions[start:stop].copy()),
            context=torch.from_numpy(self._context[start:stop].copy()),
        )


def concatenate(schema: Schema, pieces: Sequence[tuple[pa.Table, Array]], context: Context | None = None) -> Rows:
    """Rows of several tables, in order. Shards may differ in the widths of their integers."""
    tables, positions = zip(*pieces, strict=True)
    return Rows(schema, pa.concat_tables(tables, promote_options="permissive"), np.concatenate(positions), context)


def _bags(column: pa.ChunkedArray, multi_hot: bool) -> tuple[Array, Array | None]:
    """Ids, and where each row's ids start: (rows + 1,), or None where every row has one."""
    if not multi_hot:
        return _flat_array(column), None
    chunk = _one_chunk(column)
    offsets = chunk.offsets.to_numpy().astype(np.int64)
    return chunk.flatten().to_numpy(), offsets - offsets[0]


def _slice(values: Array, offsets: Array | None, start: int, stop: int) -> tuple[Array, Array]:
    """Ids and lengths (int32) of rows ``[start, stop)``."""
    if offsets is None:
        return values[start:stop], np.ones(stop - start, dtype=np.int32)
    return values[offsets[start] : offsets[stop]], np.diff(offsets[start : stop + 1]).astype(np.int32)


def _flat_array(column: pa.ChunkedArray) -> Array:
    array: Array = _one_chunk(column).to_numpy(zero_copy_only=False)
    return array


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
