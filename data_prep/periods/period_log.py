"""The rows of one period of a log that was cut, as a raw log: its files are those of the log's segments."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data_prep.columns.layout import Layout
from data_prep.columns.rows import Piece, Rows
from data_prep.sources.parsed_rows import read_blocks


@dataclass(frozen=True)
class CutSegment:
    """The rows of one period in a segment of a log."""

    blocks: tuple[int, ...]
    """Numbers of its blocks in the file of the segment."""
    lines_before: int
    """Lines of the log's file before the segment."""


class PeriodLog:
    """One period of a log.

    Args:
        segments: of each file.
        has_texts: whether the log has texts, see :class:`~data_prep.sources.source.Source`.
    """

    is_slow = False

    def __init__(self, layout: Layout, files: Sequence[Path], segments: Sequence[CutSegment], has_texts: bool) -> None:
        self.files = files
        self.unreadable: dict[int, str] = {}
        self.has_texts = has_texts
        self._segments = segments

    def segments(self, file: int) -> int | None:
        return 1

    def read(self, file: int, first: int, last: int | None) -> Iterator[Piece]:
        segment = self._segments[file]
        line, file_bytes = 1, self.files[file].stat().st_size
        for rows in self._blocks(file):
            # The lines are those of the log's file.
            bad = [replace(row, line=segment.lines_before + row.line) for row in rows.bad]
            yield Piece(0, replace(rows, bad=bad), file_bytes, line)
            line, file_bytes = line + rows.lines, 0

    def count(self, file: int, first: int, last: int | None) -> Iterator[tuple[int, int]]:
        return ((0, rows.lines) for rows in self._blocks(file))

    def line(self, file: int, segment: int, line: int) -> int:
        return line

    def _blocks(self, file: int) -> Iterator[Rows]:
        return read_blocks(self.files[file], self._segments[file].blocks)
