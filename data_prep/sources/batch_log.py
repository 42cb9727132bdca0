"""A raw log in any format, by a function that reads one of its files."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from data_prep.columns.layout import Layout
from data_prep.columns.rows import Piece
from data_prep.sources.arrow_rows import READ_ERRORS, ArrowRows
from data_prep.sources.raw_text import BrokenFile
from dlrm_mtl.location import Location
from dlrm_mtl.quoting import quote, shorten

ReadFile = Callable[[Path], Iterable[pa.RecordBatch]]
"""Yields the rows of a file as record batches, in order, and the same rows whenever it is called. Columns have the
names of the layout and any Arrow type that docs/data/parquet.md lists; all batches of a file have the same columns.
Raises ValueError, OSError or ArrowException where the file cannot be read."""


class BatchLog:
    """The files of a log, read by a function. A file is one segment: the unit of parallel work and of resuming.

    Raises:
        ValueError: a column is missing or cannot be used, see :meth:`ArrowRows.add`.
    """

    is_slow = True
    has_texts = False

    def __init__(self, layout: Layout, files: Sequence[Location], read: ReadFile) -> None:
        paths = [path for path in files if isinstance(path, Path)]
        if len(paths) < len(files):
            raise ValueError(f"raw {quote(str(files[0]))}: a format of one's own is read from paths of a file system")
        self.files = paths
        self.unreadable: dict[int, str] = {}
        self._read = read
        self._rows = ArrowRows(layout)
        self._schemas: list[pa.Schema | None] = []
        for number, path in enumerate(paths):
            try:
                first = next(iter(read(path)), None)
            except (ValueError, *READ_ERRORS) as error:
                self.unreadable[number] = _explain(error)
                first = None
            self._schemas.append(first.schema if first is not None else None)
            self._rows.add(path, self._schemas[-1])

    def segments(self, file: int) -> int | None:
        return 1

    def read(self, file: int, first: int, last: int | None) -> Iterator[Piece]:
        line, file_bytes = 1, self.files[file].stat().st_size
        for batch in self._batches(file):
            rows = self._rows.parse(file, batch, line)
            yield Piece(0, rows, file_bytes, line)
            line, file_bytes = line + rows.lines, 0

    def count(self, file: int, first: int, last: int | None) -> Iterator[tuple[int, int]]:
        return ((0, batch.num_rows) for batch in self._batches(file))

    def line(self, file: int, segment: int, line: int) -> int:
        return line

    def _batches(self, file: int) -> Iterator[pa.RecordBatch]:
        if file in self.unreadable:
            raise BrokenFile(self.unreadable[file], 0)
        rows = 0
        try:
            for batch in self._read(self.files[file]):
                if batch.schema != self._schemas[file]:
                    raise ValueError("its columns differ from those of the first rows")
                yield batch
                rows += batch.num_rows
        except (ValueError, *READ_ERRORS) as error:
            raise BrokenFile(_explain(error), rows) from None


def _explain(error: Exception) -> str:
    return f"cannot be read further ({shorten(' '.join(str(error).split()))})"
