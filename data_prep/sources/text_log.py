"""Delimited text files as a raw log."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pyarrow as pa

from data_prep.columns.layout import Layout
from data_prep.columns.rows import LINE_BYTES, Piece, too_long
from data_prep.sources.delimited import DelimitedParser, split_quoted
from data_prep.sources.partitions import partition_columns, partition_of, repeated
from data_prep.sources.raw_text import BrokenFile, first_line, read_blocks, segments_of
from data_prep.sources.text_file import check_is_text, codec_of
from dlrm_mtl.location import Location
from dlrm_mtl.quoting import quote, shorten

LINES_LOOKED_AT = 100
"""First lines of a file; at least one of them must have the layout's number of fields."""


class TextLog:
    """Delimited text files, plain or compressed.

    Raises:
        ValueError: a file cannot be read, or its fields are not those of the layout.
    """

    is_slow = True
    has_texts = True

    def __init__(self, layout: Layout, files: Sequence[Location]) -> None:
        lists = [column for column, use in layout.uses.items() if use == "list"]
        if lists:
            raise ValueError(f"{files[0]}: column {lists[0]!r} is multi_hot; in a text log it needs a separator")
        self.files = files
        self.unreadable: dict[int, str] = {}
        self._layout = layout
        self._names: list[Sequence[str]] = []
        self._partitions: list[dict[str, pa.Array]] = []
        # An empty file among others had no rows to write, and has no header either.
        has_rows = any(path.stat().st_size for path in files)
        for number, path in enumerate(files):
            check_is_text(path)
            try:
                is_empty = has_rows and not path.stat().st_size and codec_of(path) is None
                names = () if is_empty else self._field_names(path)
            except BrokenFile as error:
                self.unreadable[number] = str(error)
                names = ()
            self._names.append(names)
            self._partitions.append({} if layout.columns else partition_columns(path, layout, names))

    def segments(self, file: int) -> int | None:
        return segments_of(self.files[file])

    def read(self, file: int, first: int, last: int | None) -> Iterator[Piece]:
        self._refuse_unreadable(file)
        if not self._names[file]:
            return
        partition = self._partitions[file]
        parser = DelimitedParser(self._layout, self._names[file], partition.keys())
        segment, line = first, 1
        for block in read_blocks(self.files[file], first, last):
            if block.segment != segment:
                segment, line = block.segment, 1
            text, lines = block.text, block.lines
            if segment == 0 and line == 1 and not self._layout.columns:
                text, lines = text[bytes(text[:LINE_BYTES]).index(b"\n") + 1 :], lines - 1
                line += 1
            rows = too_long(parser.empty, text, line) if block.is_too_long else parser.parse(text, lines, line)
            table = rows.table
            for name, column in repeated(partition, len(table)).items():
                table = table.append_column(name, column)
            yield Piece(segment, replace(rows, table=table, blank_end=block.blank_end), block.file_bytes, line)
            line += rows.lines

    def count(self, file: int, first: int, last: int | None) -> Iterator[tuple[int, int]]:
        self._refuse_unreadable(file)
        header = not self._layout.columns
        for block in read_blocks(self.files[file], first, last):
            is_first, header = header and block.segment == 0, False
            yield block.segment, block.lines - is_first

    def line(self, file: int, segment: int, line: int) -> int:
        # The header counts as a line of its segment, so it counts before later segments, too.
        header = 0 if self._layout.columns or segment == 0 else 1
        before = sum(lines for _, lines in self.count(file, 0, segment - 1)) if segment else 0
        return header + before + line

    def _refuse_unreadable(self, file: int) -> None:
        if file in self.unreadable:
            raise BrokenFile(self.unreadable[file], 0)

    def _field_names(self, path: Location) -> Sequence[str]:
        if self._layout.columns:
            self._check_number_of_fields(path)
            return self._layout.columns
        names = [name.strip() if self._layout.trim else name for name in self._split(first_line(path))]
        in_path = partition_of(path)
        for column in self._layout.uses:
            if names.count(column) > 1:
                raise ValueError(f"{path}, line 1: column {quote(column)} is named twice")
            if column not in names and column not in in_path:
                raise ValueError(
                    f"{path}, line 1: column {quote(column)} is missing; the file has {shorten(', '.join(names))}"
                )
        return names

    def _check_number_of_fields(self, path: Location) -> None:
        """Raises ValueError for a file of another layout: none of its first lines has as many fields."""
        blocks = (block for block in read_blocks(path, 0, 0) if block.lines and not block.is_too_long)
        block = next(blocks, None)
        if block is None:
            raise ValueError(f"{path}: is empty, or holds no line of at most {LINE_BYTES >> 20} MiB")
        text = bytes(block.text[: LINES_LOOKED_AT * LINE_BYTES]).decode(errors="replace")
        lines = [line.rstrip("\r") for line in text.split("\n", LINES_LOOKED_AT)[:-1]]
        numbers = [len(self._split(line)) for line in lines]
        if len(self._layout.columns) not in numbers:
            what = f"{numbers[0]} fields, layout {self._layout.name!r} has {len(self._layout.columns)}"
            why = f"is the separator {self._layout.separator!r}?"
            if "\r" in lines[0]:
                why = "carriage returns end no line, expected \\n or \\r\\n"
            raise ValueError(f"{path}, line 1: {what}; {why}")

    def _split(self, line: str) -> Sequence[str]:
        separator = self._layout.separator
        return split_quoted(line, separator) or [""] if self._layout.quoted else line.split(separator)
