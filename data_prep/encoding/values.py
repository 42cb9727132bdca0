"""The values of a vocabulary by themselves, as an export holds them, and which of them change from day to day."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_prep.columns.arrays import one_chunk
from data_prep.ids.vocabulary import RESERVED_IDS
from dlrm_mtl.location import Location
from dlrm_mtl.storage.parquet import read_table

GROUP_ROWS = 1 << 20
"""Values that are written at a time: the bytes of a file do not depend on the chunks of its values."""


def load_values(path: Location) -> pa.ChunkedArray:
    """The values (V,) of a vocabulary. Value number i has id i + 2."""
    return read_table(path, ["value"])["value"]


def write_values(values: pa.ChunkedArray, path: Path) -> None:
    """Writes values (V,) as a vocabulary without counts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, pa.schema({"value": values.type}), compression="zstd") as writer:
        for start in range(0, len(values), GROUP_ROWS):
            writer.write_table(pa.table({"value": one_chunk(values.slice(start, GROUP_ROWS))}))


def changed_values(before: pa.ChunkedArray, after: pa.ChunkedArray) -> pa.Table:
    """``id`` and ``value`` of the values that replaced another one or were appended.

    Args:
        before: (V,).
        after: (W,), W >= V, of the same type.
    """
    replaced = np.flatnonzero(pc.not_equal(before, after.slice(0, len(before))))
    positions = np.concatenate([replaced, np.arange(len(before), len(after))])
    return pa.table({"id": positions + RESERVED_IDS, "value": after.take(pa.array(positions))})


def with_changes(before: pa.ChunkedArray, changes: pa.Table) -> pa.ChunkedArray:
    """The values after changes, the inverse of :func:`changed_values`."""
    positions = changes["id"].to_numpy() - RESERVED_IDS
    replaced = np.zeros(len(before), bool)
    number = int(np.count_nonzero(positions < len(before)))
    replaced[positions[:number]] = True
    values = pc.replace_with_mask(before, pa.array(replaced), one_chunk(changes["value"].slice(0, number)))
    return pa.chunked_array([*values.chunks, *changes["value"].slice(number).chunks], type=before.type)
