"""Parquet shards with checksums, written under a temporary name and renamed when complete."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dlrm_mtl.files import PendingFile, sha256
from dlrm_mtl.model_schema import CategoricalFeature, Task
from dlrm_mtl.segments import cluster_column, segment_column

ROW_GROUP_ROWS = 16_384
"""Rows of a parquet row group, the unit of reading: small enough to shuffle several in memory, large enough for
efficient reads."""


RECURRING = 0.25
"""Share of distinct values below which a column gets a dictionary."""


def label_types(tasks: Sequence[Task]) -> dict[str, pa.DataType]:
    """Columns of labels, conditions and row weights, by name."""
    types = {}
    for task in tasks:
        types[task.label] = pa.int8() if task.kind == "binary" else pa.float32()
        types |= {task.given: pa.int8()} if task.given else {}
    return types | {task.weight: pa.float32() for task in tasks if task.weight}


def arrow_schema(
    categorical: Sequence[CategoricalFeature], dense: Sequence[str], labels: Mapping[str, pa.DataType]
) -> pa.Schema:
    """Columns of a data set's shards without cluster and segments. None is nullable.

    Args:
        labels: types of the columns of labels, conditions and row weights.
    """
    ids = pa.list_(pa.field("element", pa.int32(), nullable=False))
    types = {feature.name: ids if feature.multi_hot else pa.int32() for feature in categorical}
    types |= dict.fromkeys(dense, pa.float32()) | dict(labels)
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in types.items()])


def context_fields(cluster: str, segments: Sequence[str]) -> list[pa.Field]:
    """Columns of cluster (empty: none) and segments in the shards of the eval split."""
    codes = [pa.field(segment_column(name), pa.int32(), nullable=False) for name in segments]
    return [pa.field(cluster_column(cluster), pa.int64()), *codes] if cluster else codes


class ShardWriter:
    """Writes one parquet file in row groups of equal size; memory holds one of them.

    The file appears under its name when :meth:`close` succeeds.
    """

    def __init__(self, path: Path, schema: pa.Schema, row_group_rows: int = ROW_GROUP_ROWS) -> None:
        self.path = path
        self.rows = 0
        self._file = PendingFile(path)
        self._schema = schema
        self._row_group_rows = row_group_rows
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self._writer: pq.ParquetWriter | None = None

    def write(self, table: pa.Table) -> None:
        """Appends rows of the shard's schema."""
        self.rows += len(table)
        self._pending.append(table)
        self._pending_rows += len(table)
        if self._pending_rows >= self._row_group_rows:
            pending = pa.concat_tables(self._pending)
            whole = len(pending) - len(pending) % self._row_group_rows
            self._write_row_groups(pending.slice(0, whole))
            # A copy, so that the written part can be freed.
            self._pending = [pending.slice(whole).combine_chunks()]
            self._pending_rows = len(pending) - whole

    def close(self) -> dict[str, Any]:
        """Ends the file and moves it into place; returns its ``rows``, ``bytes`` and ``sha256``."""
        if self._pending_rows:
            self._write_row_groups(pa.concat_tables(self._pending))
            self._pending, self._pending_rows = [], 0
        (self._writer or self._open(self._schema.empty_table())).close()
        temporary = self._file.temporary
        written = {"rows": self.rows, "bytes": temporary.stat().st_size, "sha256": sha256(temporary)}
        self._file.commit()
        return written

    def abandon(self) -> None:
        """Discards the file."""
        # If the disk is full, closing fails, too.
        with suppress(OSError):
            if self._writer is not None:
                self._writer.close()
        self._file.discard()

    def _write_row_groups(self, table: pa.Table) -> None:
        self._writer = self._writer or self._open(table)
        self._writer.write_table(table, row_group_size=self._row_group_rows)

    def _open(self, sample: pa.Table) -> pq.ParquetWriter:
        """Columns with recurring values get a dictionary and no compression, the others byte stream split and LZ4. That
        is faster than a dictionary and compression for all columns, at about the same size."""
        sample = sample.slice(0, ROW_GROUP_ROWS)
        recurring = [name for name in sample.column_names if _distinct_share(sample[name]) < RECURRING]
        spread = [name for name in sample.column_names if name not in recurring]
        return pq.ParquetWriter(
            self._file.temporary,
            self._schema,
            use_dictionary=recurring,
            use_byte_stream_split=[name for name in spread if pa.types.is_primitive(sample[name].type)],
            compression={name: "none" if name in recurring else "lz4" for name in sample.column_names},
            write_statistics=False,
        )


def _distinct_share(column: pa.ChunkedArray) -> float:
    values = pc.list_flatten(column) if pa.types.is_list(column.type) else column
    return pc.count_distinct(values).as_py() / max(len(values), 1)
