"""Raw logs as typed rows, segment by segment: text files and parquet files."""

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from data_prep.delimited import BOM, DelimitedParser
from data_prep.layout import Layout
from data_prep.parquet_log import ParquetLog
from data_prep.raw_text import LINE_BYTES, BrokenFile, first_line, is_compressed, read_blocks, segments_of
from data_prep.rows import Piece

LINES_LOOKED_AT = 100
"""Lines at the beginning of a file of which one at least must have the layout's number of fields."""


class Source(Protocol):
    """The files of a log, each cut into segments."""

    files: Sequence[Path]

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


class TextLog:
    """Delimited text files, plain or compressed.

    Raises:
        ValueError: a file cannot be read, or its fields are not those of the layout.
    """

    def __init__(self, layout: Layout, files: Sequence[Path]) -> None:
        lists = [column for column, use in layout.uses.items() if use == "list"]
        if lists:
            raise ValueError(f"{files[0]}: column {lists[0]!r} is multi_hot; in a text log it needs a separator")
        self.files = files
        self._layout = layout
        self._names = [self._field_names(path) for path in files]

    @property
    def is_slow(self) -> bool:
        return True

    def segments(self, file: int) -> int | None:
        return segments_of(self.files[file])

    def read(self, file: int, first: int, last: int | None) -> Iterator[Piece]:
        parser = DelimitedParser(self._layout, self._names[file])
        segment, line = first, 1
        for block in read_blocks(self.files[file], first, last):
            if block.segment != segment:
                segment, line = block.segment, 1
            text, lines = block.text, block.lines
            if segment == 0 and line == 1 and self._layout.columns:
                text = text[len(BOM) :] if text[: len(BOM)] == BOM else text
            elif segment == 0 and line == 1:
                text, lines = text[bytes(text[:LINE_BYTES]).index(b"\n") + 1 :], lines - 1
                line += 1
            rows = parser.parse(text, lines, line)
            yield Piece(segment, rows, block.file_bytes)
            line += rows.lines

    def count(self, file: int, first: int, last: int | None) -> Iterator[tuple[int, int]]:
        header = not self._layout.columns
        for block in read_blocks(self.files[file], first, last):
            is_first, header = header and block.segment == 0, False
            yield block.segment, block.lines - is_first

    def line(self, file: int, segment: int, line: int) -> int:
        # A segment's lines are counted with the header, so those before it must be, too.
        header = 0 if self._layout.columns or segment == 0 else 1
        before = sum(lines for _, lines in self.count(file, 0, segment - 1)) if segment else 0
        return header + before + line

    def _field_names(self, path: Path) -> Sequence[str]:
        if self._layout.columns:
            self._check_number_of_fields(path)
            return self._layout.columns
        names = [name.strip() if self._layout.trim else name for name in self._split(first_line(path))]
        for column in self._layout.uses:
            if names.count(column) != 1:
                found = "is named twice" if column in names else f"is missing; the file has {', '.join(names)}"
                raise ValueError(f"{path}, line 1: column {column!r} {found}")
        return names

    def _check_number_of_fields(self, path: Path) -> None:
        """Refuses a file of another layout: one in which none of the first lines has as many fields."""
        try:
            block = next(read_blocks(path, 0, 0), None)
        except BrokenFile as error:
            raise ValueError(f"{path}: {error}") from None
        if block is None:
            raise ValueError(f"{path}: is empty")
        lines = bytes(block.text[: LINES_LOOKED_AT * LINE_BYTES]).decode(errors="replace").split("\n", LINES_LOOKED_AT)
        numbers = [len(self._split(line)) for line in lines[:-1]]
        if len(self._layout.columns) not in numbers:
            raise ValueError(
                f"{path}, line 1: {numbers[0]} fields, layout {self._layout.name!r} has"
                f" {len(self._layout.columns)}; is the separator {self._layout.separator!r}?"
            )

    def _split(self, line: str) -> Sequence[str]:
        separator = self._layout.separator
        return next(csv.reader([line], delimiter=separator), [""]) if self._layout.quoted else line.split(separator)


def open_source(layout: Layout, files: Sequence[Path]) -> Source:
    """The log that the files are.

    Raises:
        ValueError: parquet files are mixed with others; a file is missing, cannot be read, or is not as the layout
            says.
    """
    parquet = [path.suffix == ".parquet" for path in files]
    if any(parquet) and not all(parquet):
        raise ValueError(f"{files[parquet.index(False)]}: no parquet file, though others are; give files of one sort")
    return ParquetLog(layout, files) if all(parquet) else TextLog(layout, files)


def find_files(paths: Sequence[Path]) -> list[Path]:
    """The files of a log, in order: files as they are given, those of a directory by name with numbers in their
    order (``day_2`` before ``day_10``); hidden ones are left out.

    Raises:
        ValueError: there is none, one is given twice, or one is there both plain and compressed.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted((f for f in path.iterdir() if f.is_file() and f.name[0] != "."), key=natural_order)
        elif path.is_file():
            files.append(path)
        else:
            raise ValueError(f"{path}: not found")
    if not files:
        raise ValueError(f"{', '.join(map(str, paths))}: holds no file")
    plain: dict[Path, Path] = {}
    for file in files:
        resolved = file.resolve()
        key = resolved.with_suffix("") if is_compressed(file) else resolved
        if key in plain:
            raise ValueError(f"{file}: is there twice, the other is {plain[key]}; its rows would count twice")
        plain[key] = file
    return files


def natural_order(path: Path) -> list[tuple[int, str]]:
    """Sorts names with their numbers by size."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
