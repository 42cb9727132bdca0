"""Parquet files as a raw log: segments are runs of row groups."""

from collections.abc import Iterator, Sequence

import pyarrow.parquet as pq

from data_prep.columns.layout import Layout
from data_prep.columns.rows import Piece
from data_prep.sources.arrow_rows import READ_ERRORS, ArrowRows
from data_prep.sources.raw_text import SEGMENT_BYTES, BrokenFile
from dlrm_mtl.location import Location
from dlrm_mtl.quoting import shorten
from dlrm_mtl.storage.parquet import is_of_file, open_parquet

BATCH_ROWS = 65_536


class ParquetLog:
    """Parquet files of one layout.

    Raises:
        ValueError: see :meth:`ArrowRows.add`.
    """

    is_slow = False
    has_texts = False

    def __init__(self, layout: Layout, files: Sequence[Location]) -> None:
        self.files = files
        self.unreadable: dict[int, str] = {}
        self._rows = ArrowRows(layout)
        self._segments: list[list[list[int]]] = []
        for number, path in enumerate(files):
            try:
                with open_parquet(path) as parquet:
                    schema, segments = parquet.schema_arrow, _segments(parquet)
            except READ_ERRORS as error:
                if not is_of_file(error):
                    raise
                self.unreadable[number] = f"cannot be read as parquet ({shorten(' '.join(str(error).split()))})"
                schema, segments = None, [[]]
            self._segments.append(segments)
            self._rows.add(path, schema)

    def segments(self, file: int) -> int | None:
        return len(self._segments[file])

    def read(self, file: int, first: int, last: int | None) -> Iterator[Piece]:
        self._refuse_unreadable(file)
        path, columns = self.files[file], self._rows.columns(file)
        final = len(self._segments[file]) - 1 if last is None else last
        for segment in range(first, final + 1):
            line = 1
            try:
                with open_parquet(path) as parquet:
                    groups = self._segments[file][segment]
                    size = sum(_bytes(parquet, group) for group in groups)
                    for batch in parquet.iter_batches(BATCH_ROWS, groups, columns, use_threads=False):
                        rows = self._rows.parse(file, batch, line)
                        yield Piece(segment, rows, size, line)
                        line, size = line + rows.lines, 0
            except READ_ERRORS as error:
                if not is_of_file(error):
                    raise
                raise BrokenFile(
                    f"cannot be read further ({shorten(' '.join(str(error).split()))})", line - 1
                ) from None

    def count(self, file: int, first: int, last: int | None) -> Iterator[tuple[int, int]]:
        self._refuse_unreadable(file)
        final = len(self._segments[file]) - 1 if last is None else last
        with open_parquet(self.files[file]) as parquet:
            for segment in range(first, final + 1):
                groups = self._segments[file][segment]
                yield segment, sum(parquet.metadata.row_group(group).num_rows for group in groups)

    def line(self, file: int, segment: int, line: int) -> int:
        return sum(rows for _, rows in self.count(file, 0, segment - 1)) + line if segment else line

    def _refuse_unreadable(self, file: int) -> None:
        if file in self.unreadable:
            raise BrokenFile(self.unreadable[file], 0)


def _bytes(parquet: pq.ParquetFile, group: int) -> int:
    metadata = parquet.metadata.row_group(group)
    return sum(metadata.column(i).total_compressed_size for i in range(metadata.num_columns))


def _segments(parquet: pq.ParquetFile) -> list[list[int]]:
    """The row groups of each segment."""
    segments: list[list[int]] = [[]]
    size = 0
    for group in range(parquet.num_row_groups):
        if size >= SEGMENT_BYTES:
            segments.append([])
            size = 0
        segments[-1].append(group)
        size += parquet.metadata.row_group(group).total_byte_size
    return segments
