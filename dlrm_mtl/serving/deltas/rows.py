"""The rows of a table that differ between two exports, compared and replaced byte for byte."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from dlrm_mtl.serving.deltas.archive import Archive, Bytes
from dlrm_mtl.serving.deltas.manifest import Changes
from dlrm_mtl.serving.manifest import StoredTable

BLOCK_ROWS = 1 << 16
"""Rows that are compared at a time."""

Rows = npt.NDArray[np.void]
"""(R,) rows as plain bytes."""


def rows_of(tensor: Bytes, table: StoredTable) -> Rows:
    """The rows of a table, in the tensor that stores them."""
    stop = table.start + table.rows * table.row_bytes
    return tensor[table.start : stop].view(f"V{table.row_bytes}")


def stored_rows(archive: Archive, table: StoredTable) -> Rows:
    """The rows of a table, mapped into memory."""
    return rows_of(archive.tensor(table.tensor), table)


def write_changed_rows(before: Rows, after: Rows, path: Path) -> Changes:
    """Writes ``id`` and ``row`` of the rows (after,) that are not the same in (before,)."""
    replaced = 0
    schema = pa.schema({"id": pa.int64(), "row": pa.binary(after.dtype.itemsize)})
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, len(after), BLOCK_ROWS):
            now, old = (rows[start : start + BLOCK_ROWS] for rows in (after, before))
            changed = np.ones(len(now), bool)
            changed[: len(old)] = now[: len(old)] != old
            replaced += int(np.count_nonzero(changed[: len(old)]))
            if changed.any():
                content = pa.py_buffer(now[changed].tobytes())
                ids = start + np.flatnonzero(changed)
                rows = pa.FixedSizeBinaryArray.from_buffers(schema.field("row").type, len(ids), [None, content])
                writer.write_table(pa.table([pa.array(ids), rows], schema=schema))
    return Changes(replaced, len(after) - len(before), len(after))


def replace_rows(rows: Rows, changes: Path) -> None:
    """Puts rows that :func:`write_changed_rows` wrote in their places."""
    for batch in pq.ParquetFile(changes).iter_batches():
        content = batch["row"]
        new = np.frombuffer(content.buffers()[1], rows.dtype, len(content), content.offset * rows.dtype.itemsize)
        rows[batch["id"].to_numpy()] = new
