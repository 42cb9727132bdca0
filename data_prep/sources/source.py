"""Raw logs as typed rows, segment by segment: text files and parquet files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from data_prep.columns.layout import Layout
from data_prep.columns.rows import Piece
from data_prep.sources.file_kinds import PARQUET, head, kind_of
from data_prep.sources.parquet_log import ParquetLog
from data_prep.sources.text_log import TextLog


class Source(Protocol):
    """The files of a log, each cut into segments."""

    files: Sequence[Path]

    @property
    def unreadable(self) -> Mapping[int, str]:
        """Files, by their numbers, of which not even the beginning can be read, and why."""

    @property
    def is_slow(self) -> bool:
        """Whether reading takes so long that what was read is worth keeping."""

    def segments(self, file: int) -> int | None:
        """Number of segments of a file; None where only reading tells."""

    def read(self, file: int, first: int, last: int | None) -> Iterator[Piece]:
        """Rows of segments ``first`` to ``last`` (None: to the end)."""

    def count(self, file: int, first: int, last: int | None) -> Iterator[tuple[int, int]]:
        """Segments and numbers of lines in them, in one or more portions of each, without a look into the lines."""

    def line(self, file: int, segment: int, line: int) -> int:
        """Number of a line within its file from its number within its segment, both from 1."""


OpenSource = Callable[[Layout, Sequence[Path]], Source]


def open_source(layout: Layout, files: Sequence[Path]) -> Source:
    """The log that the files are: parquet by its first bytes or its name, else text.

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
        raise ValueError(f"{files[other]}: no parquet file{what}, though others are; give files of one sort")
    return ParquetLog(layout, files) if all(parquet) else TextLog(layout, files)
