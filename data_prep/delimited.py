"""Lines of text to typed columns by pyarrow's CSV kernels; a block that they refuse is looked at line by line, so that
every bad row is named."""

import csv
import re
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from data_prep.keys import decode_hex, numbers, one_chunk
from data_prep.layout import Layout
from data_prep.raw_columns import known_texts, required_labels
from data_prep.raw_text import count_lines
from data_prep.rows import EXPECTED, BadRow, Rows

CSV_BLOCK_BYTES = 1 << 20
"""Bytes that pyarrow parses at a time: the columns stay in a core's cache. A line may not be longer."""

HEX = re.compile(r"[0-9a-fA-F]{8}")
INTEGER = re.compile(r"-?[0-9]{1,19}")

TYPES = {
    "hex": pa.binary(8),
    "integer": pa.int64(),
    "number": pa.float64(),
    "string": pa.string(),
    "binary": pa.int8(),
}


class DelimitedParser:
    """Parses blocks of whole lines of one file.

    Args:
        names: the fields of a line, in their order.
    """

    def __init__(self, layout: Layout, names: Sequence[str]) -> None:
        self._layout = layout
        self._names = list(names)
        self._uses = layout.uses
        self._index = {name: self._names.index(name) for name in self._uses}
        self._missing = {*layout.missing, *((f" {text}" for text in layout.missing) if layout.trim else ())}
        self._read = pa.csv.ReadOptions(column_names=self._names, use_threads=False, block_size=CSV_BLOCK_BYTES)
        self._parse = pa.csv.ParseOptions(
            delimiter=layout.separator, quote_char='"' if layout.quoted else False, ignore_empty_lines=False
        )
        self._convert = pa.csv.ConvertOptions(
            include_columns=list(self._uses),
            column_types={name: TYPES[use] for name, use in self._uses.items()},
            null_values=sorted(self._missing),
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        )
        self._negatives = {column: pa.array(texts) for column, texts in known_texts(layout).items()}
        self._labels = required_labels(layout)

    def parse(self, text: memoryview | bytes, lines: int, first_line: int) -> Rows:
        """Parses a block of so many lines; ``first_line`` is the number of the first within the segment, from 1."""
        table = self._convert_all(text)
        if table is not None and len(table) == lines:
            return Rows(table, np.arange(lines), lines)
        text = bytes(text)
        if lines == 1 or len(text) <= CSV_BLOCK_BYTES:
            return self._parse_by_line(text, first_line)
        middle = text.index(b"\n", len(text) // 2 - 1) + 1
        if middle == len(text):
            middle = text.rindex(b"\n", 0, middle - 1) + 1
        head, tail = text[:middle], text[middle:]
        lines_of_head = count_lines(head)
        return _join(
            self.parse(head, lines_of_head, first_line),
            self.parse(tail, lines - lines_of_head, first_line + lines_of_head),
        )

    def _convert_all(self, text: memoryview | bytes) -> pa.Table | None:
        """The typed columns; None where any line is not as it should be."""
        if not text:
            return None
        try:
            table = pa.csv.read_csv(pa.BufferReader(text), self._read, self._parse, self._convert)
        except pa.ArrowInvalid:
            return None
        columns = {}
        for name, use in self._uses.items():
            column = one_chunk(table[name])
            if use == "hex":
                column, valid = decode_hex(column)
                if not valid:
                    return None
            elif use == "string" and self._layout.trim:
                column = pc.utf8_trim_whitespace(column)
            if not self._is_valid(name, use, column):
                return None
            columns[name] = column
        return pa.table(columns)

    def _is_valid(self, name: str, use: str, column: pa.Array) -> bool:
        if name in self._labels and column.null_count:
            return False
        if use == "binary":
            labels = column.drop_null() if column.null_count else column
            return not len(labels) or bool((numbers(labels, np.uint8) <= 1).all())
        if use == "number":
            values = numbers(column, np.float64)
            if not np.isfinite(values).all():
                return bool(np.isfinite(values[np.asarray(column.is_valid())]).all())
        if name in self._negatives:
            return bool(pc.all(pc.is_in(column.drop_null(), value_set=self._negatives[name])).as_py() is not False)
        return True

    def _parse_by_line(self, text: bytes, first_line: int) -> Rows:
        lines = text.split(b"\n")[:-1]
        good: list[bytes] = []
        positions: list[int] = []
        bad: list[BadRow] = []
        ignored = 0
        for position, line in enumerate(lines):
            content = line.rstrip(b"\r")
            if self._layout.comment and (not content.strip() or content.startswith(self._layout.comment.encode())):
                ignored += 1
            elif fault := self._fault(content):
                original = content.decode(errors="surrogateescape")
                bad.append(BadRow(first_line + position, *fault, text=original))
            else:
                good.append(line + b"\n")
                positions.append(position)
        table = self._convert_all(b"".join(good)) if good else self._empty()
        if table is None or len(table) != len(good):
            raise ValueError(
                f"lines {first_line} to {first_line + len(lines) - 1} of the segment: cannot be parsed, though each"
                " line can; is a field quoted over several lines?"
            )
        return Rows(table, np.array(positions, np.int64), len(lines), bad, ignored)

    def _empty(self) -> pa.Table:
        types = {name: pa.uint32() if use == "hex" else TYPES[use] for name, use in self._uses.items()}
        return pa.table({name: pa.array([], kind) for name, kind in types.items()})

    def _fault(self, line: bytes) -> tuple[str, str, str] | None:
        """Column, value and reason of the first fault of a line."""
        if b"\r" in line or b"\0" in line:
            return "", "", "a carriage return or NUL inside the line"
        fields = self._split(line)
        if len(fields) != len(self._names):
            return "", f"{len(fields)} fields", f"expected {len(self._names)} fields"
        for name, use in self._uses.items():
            try:
                value = fields[self._index[name]].decode()
            except UnicodeDecodeError:
                return (
                    name,
                    fields[self._index[name]].decode(errors="backslashreplace"),
                    f"expected {EXPECTED['string']}",
                )
            if value in self._missing:
                if name in self._labels:
                    return name, value, "a label is missing"
            elif not CHECKS[use](value.strip() if self._layout.trim or use in ("integer", "number") else value):
                return name, value, f"expected {EXPECTED[use]}"
            elif name in self._negatives and value.strip() not in (known := self._negatives[name].to_pylist()):
                return name, value, f"expected {' or '.join(known)}"
        return None

    def _split(self, line: bytes) -> list[bytes]:
        if not self._layout.quoted:
            return line.split(self._layout.separator.encode())
        text = line.decode(errors="surrogateescape")
        fields = next(csv.reader([text], delimiter=self._layout.separator), [])
        return [field.encode(errors="surrogateescape") for field in fields]


def _join(head: Rows, tail: Rows) -> Rows:
    return Rows(
        pa.concat_tables([head.table, tail.table]),
        np.concatenate([head.positions, head.lines + tail.positions]),
        head.lines + tail.lines,
        [*head.bad, *tail.bad],
        head.ignored + tail.ignored,
    )


def _is_integer(text: str) -> bool:
    return INTEGER.fullmatch(text) is not None and -(2**63) <= int(text) < 2**63


def _is_number(text: str) -> bool:
    try:
        value = float(text)
    except ValueError:
        return False
    return np.isfinite(value) and "_" not in text


CHECKS: dict[str, Callable[[str], bool]] = {
    "hex": lambda text: HEX.fullmatch(text) is not None,
    "integer": _is_integer,
    "number": _is_number,
    "string": lambda text: True,
    "binary": lambda text: text in ("0", "1"),
}
