"""Parsed rows of a segment, kept on disk by the first pass over a log, so that the second one need not parse again.

A cache: segments that are missing or damaged are parsed again.
"""

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from data_prep.columns.rows import BadRow, Rows
from dlrm_mtl.files import PendingFile

OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)


class ParsedWriter:
    """Writes the blocks of a segment; the file appears with ``close``."""

    def __init__(self, path: Path) -> None:
        self._file = PendingFile(path)
        self._sink = pa.OSFile(str(self._file.temporary), "wb")
        self._writer: pa.ipc.RecordBatchFileWriter | None = None
        self._schema: pa.Schema | None = None

    def add(self, rows: Rows) -> None:
        """Appends a block."""
        if self._schema is None:
            self._schema = rows.table.schema
            self._writer = pa.ipc.new_file(self._sink, self._schema, options=OPTIONS)
        assert self._writer is not None
        # The block that says that a file breaks off has no rows and no types.
        table = rows.table if len(rows.table) else self._schema.empty_table()
        note = {
            "lines": rows.lines,
            "ignored": rows.ignored,
            "blank_end": rows.blank_end,
            "broken": rows.broken,
            "positions": None if len(table) == rows.lines else rows.positions.tolist(),
            "bad": [asdict(row) for row in rows.bad],
        }
        columns = [column.chunk(0) if column.num_chunks == 1 else column.combine_chunks() for column in table.columns]
        batch = pa.RecordBatch.from_arrays(columns, schema=self._schema)
        self._writer.write_batch(batch, {"note": json.dumps(note)})

    def close(self) -> int:
        """Ends the file and moves it into place; returns its checksum, for :func:`read_parsed`."""
        if self._writer is not None:
            self._writer.close()
        self._sink.close()
        checksum = zlib.crc32(pa.memory_map(str(self._file.temporary)).read_buffer())
        self._file.commit(durable=False)
        return checksum

    def abandon(self) -> None:
        """Discards the file."""
        self._sink.close()
        self._file.discard()


def read_parsed(path: Path, checksum: int) -> Iterator[Rows] | None:
    """The blocks of a segment; None where the file is missing or damaged."""
    if not path.is_file() or not path.stat().st_size:
        return None
    data = pa.memory_map(str(path)).read_buffer()
    if zlib.crc32(data) != checksum:
        return None
    reader = _open(data)
    return _blocks(reader, range(reader.num_record_batches))


def read_blocks(path: Path, numbers: Sequence[int]) -> Iterator[Rows]:
    """Some blocks of a segment, whose file is not checked."""
    return _blocks(_open(pa.memory_map(str(path)).read_buffer()), numbers)


def _open(data: pa.Buffer) -> pa.ipc.RecordBatchFileReader:
    return pa.ipc.open_file(data, options=pa.ipc.IpcReadOptions(use_threads=False))


def _blocks(reader: pa.ipc.RecordBatchFileReader, numbers: Sequence[int]) -> Iterator[Rows]:
    for number in numbers:
        batch, metadata = reader.get_batch_with_custom_metadata(number)
        note = json.loads(metadata[b"note"])
        positions = np.arange(note["lines"]) if note["positions"] is None else np.array(note["positions"], np.int64)
        bad = [BadRow(**row) for row in note["bad"]]
        table = pa.Table.from_batches([batch])
        yield Rows(table, positions, note["lines"], bad, note["ignored"], note["blank_end"], note["broken"])
