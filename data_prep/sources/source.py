"""Raw logs as typed rows, segment by segment: text files and parquet files."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from data_prep.columns.layout import Layout
from data_prep.columns.rows import Piece
from data_prep.sources.file_kinds import PARQUET, head, kind_of
from data_prep.sources.parquet_log import ParquetLog
from data_prep.sources.text_log import TextLog
from dlrm_mtl.location import Location


class Source(Protocol):
    """The files of a log, each cut into segments: what the engine needs of a raw format. Workers receive it pickled.

    Files and segments are numbered from 0, lines from 1. A segment yields the same rows whenever it is read."""

    @property
    def files(self) -> Sequence[Location]:
        """The files, in order."""

    unreadable: dict[int, str]
    """Files that cannot be opened, by their numbers, and why."""
    is_slow: bool
    """Whether parsing takes so long that parsed rows are kept on disk for a second pass."""
    has_texts: bool
    """Whether values are fields of text, some of which stand for a missing value (``Layout.missing``)."""

    def segments(self, file: int) -> int | None:
        """Number of segments of a file; None: unknown until the file has been read."""

    def read(self, file: int, first: int, last: int | None) -> Iterator[Piece]:
        """Yields the rows of segments ``first`` to ``last`` (None: to the end), good and bad.

        Raises:
            BrokenFile: the file cannot be read further."""

    def count(self, file: int, first: int, last: int | None) -> Iterator[tuple[int, int]]:
        """Yields (segment, number of lines) for segments ``first`` to ``last``, each in one or more portions, without
        parsing the lines. Raises as :meth:`read` does."""

    def line(self, file: int, segment: int, line: int) -> int:
        """Number of a line within its file, from its number within its segment."""


OpenSource = Callable[[Layout, Sequence[Location]], Source]


def open_source(layout: Layout, files: Sequence[Location]) -> Source:
    """Opens a log: parquet by its first bytes or its name, otherwise text.

    Raises:
        ValueError: parquet files are mixed with others; a file is missing, cannot be read, is of a kind that is
            neither, or is not as the layout says.
    """
    kinds = [kind_of(head(path)) for path in files]
    parquet = [
        kind == PARQUET or (kind is None and path.suffix.lower() == ".parquet")
        for kind, path in zip(kinds, files, strict=True)
    ]
    if any(parquet) and not all(parquet):
        other = parquet.index(False)
        what = f" but {kinds[other]}" if kinds[other] else ""
        raise ValueError(f"{files[other]}: no parquet file{what}, although others are; give files of one kind")
    return ParquetLog(layout, files) if all(parquet) else TextLog(layout, files)
