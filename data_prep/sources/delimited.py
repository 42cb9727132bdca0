"""Parses delimited lines to typed columns with pyarrow's CSV kernels. A block that they refuse is halved until each bad
line is isolated, so that the same lines are good however the text is cut into blocks."""

import csv
import re
from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from data_prep.columns.arrays import numbers, one_chunk, valid_of
from data_prep.columns.hexadecimal import decode_hex
from data_prep.columns.layout import Layout
from data_prep.columns.raw_columns import allowed_texts, cleaned, required_columns
from data_prep.columns.rows import EXPECTED, LARGEST, BadRow, Rows
from data_prep.sources.raw_text import CACHED_BYTES
from dlrm_mtl.quoting import shorten

CSV_BLOCK_BYTES = 1 << 20
"""Bytes that pyarrow parses at a time, so that the columns stay in a core's cache. No line may be longer."""

BOM = b"\xef\xbb\xbf"

BLANKS = " \t"
"""Characters that pyarrow drops around a number."""

HEX = re.compile(r"[0-9a-fA-F]{8}")
INTEGER = re.compile(r"(-?)0*([0-9]{1,19})")
"""Longer ones have more than 64 bits."""
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")

HEX_NUMBER = re.compile(rb"0[xX]")
"""pyarrow accepts these as integers; a log does not mean them so."""

Fault = tuple[str, str, str]
"""Column, value, reason."""

UNKNOWN: Fault = ("", "", "fields cannot be told apart; is a quote left open?")

FEW_LINES = 64
"""Blocks of at most so many lines are parsed line by line instead of being halved."""

TYPES = {
    "hex": pa.binary(8),
    "integer": pa.int64(),
    "number": pa.float64(),
    "weight": pa.float64(),
    "string": pa.string(),
    "binary": pa.int8(),
}


class DelimitedParser:
    """Parses blocks of whole lines of one file.

    Args:
        names: the fields of a line, in their order.
        elsewhere: columns of the layout that the lines do not have.
    """

    def __init__(self, layout: Layout, names: Sequence[str], elsewhere: Collection[str] = ()) -> None:
        self._layout = layout
        self._names = list(names)
        self._uses = {name: use for name, use in layout.uses.items() if name not in elsewhere}
        self._index = {name: self._names.index(name) for name in self._uses}
        self._read = pa.csv.ReadOptions(column_names=self._names, use_threads=False, block_size=CSV_BLOCK_BYTES)
        self._parse = pa.csv.ParseOptions(
            delimiter=layout.separator, quote_char='"' if layout.quoted else False, ignore_empty_lines=False
        )
        self._convert = pa.csv.ConvertOptions(
            include_columns=list(self._uses),
            # Spaces are dropped before values are compared with the missing ones and converted.
            column_types={name: pa.string() if layout.trim else TYPES[use] for name, use in self._uses.items()},
            null_values=[] if layout.trim else list(layout.missing),
            strings_can_be_null=not layout.trim,
            quoted_strings_can_be_null=True,
        )
        self._negatives = {column: pa.array(texts) for column, texts in allowed_texts(layout).items()}
        self._required = {name: why for name, why in required_columns(layout).items() if name in self._uses}
        self._integers = [name for name, use in self._uses.items() if use in ("integer", "binary")]

    @property
    def empty(self) -> pa.Table:
        """A table without rows."""
        types = {name: pa.uint32() if use == "hex" else TYPES[use] for name, use in self._uses.items()}
        return pa.table({name: pa.array([], kind) for name, kind in types.items()})

    def parse(self, text: memoryview | bytes, lines: int, first_line: int) -> Rows:
        """Parses a block of so many lines; ``first_line`` is the number of the first within the segment, from 1."""
        if lines and not self._needs_care(text):
            table = self._convert_lines(text, lines)
            if table is not None:
                return Rows(table, np.arange(lines), lines)
        return self._parse_by_line(bytes(text), first_line)

    def _needs_care(self, text: memoryview | bytes) -> bool:
        """Whether a block has characters that pyarrow treats differently."""
        characters = np.frombuffer(text, np.uint8)
        if not characters.min():
            return True
        # Finding the maximum is faster than a search for one character, and that than a search for two.
        holds = characters.max() >= ord("x") or _holds(characters, "X")
        if self._integers and holds and HEX_NUMBER.search(text):
            return True
        if self._layout.quoted:
            # One line more, by a carriage return, could hide one line less, by a line end between quotes.
            returns = np.flatnonzero(characters == ord("\r"))
            if (characters[returns + 1] != ord("\n")).any():
                return True
        if not self._layout.comment and "" in self._layout.missing and self._required:
            # pyarrow reads an empty line as missing values; where one must not be missing, it is refused anyway.
            return False
        starts = (self._layout.comment.encode(), b"\n", b"\r\n") if self._layout.comment else (b"\n", b"\r\n")
        whole = b"\n" + text
        return any(b"\n" + start in whole for start in starts)

    def _convert_lines(self, text: memoryview | bytes, lines: int) -> pa.Table | None:
        """The typed columns of so many lines; None where any line is bad."""
        table = self._convert_all(text)
        if table is None or len(table) != lines:
            return None
        if self._layout.quoted:
            # A quote that the last line leaves open is only noticed when a line follows.
            last = b"\n" + bytes(text).rsplit(b"\n", 2)[-2]
            twice = self._convert_all((last + last + b"\n")[1:]) if b'"' in last else None
            if b'"' in last and (twice is None or len(twice) != 2):
                return None
        return table

    def _convert_all(self, text: memoryview | bytes) -> pa.Table | None:
        """The typed columns; None where any line is bad."""
        if text[:3] == BOM:
            # The parser drops a byte order mark at the beginning of its input, which is not the beginning of the file
            # here.
            text = BOM + text
        try:
            table = pa.csv.read_csv(pa.BufferReader(text), self._read, self._parse, self._convert)
            return self._typed(table)
        except pa.ArrowInvalid:
            return None

    def _typed(self, table: pa.Table) -> pa.Table | None:
        columns = {}
        for name in table.column_names:
            use, column = self._uses[name], one_chunk(table[name])
            if self._layout.trim:
                column = cleaned(column, trim=True, missing=self._layout.missing)
                if use == "hex" and pc.any(pc.not_equal(pc.binary_length(column), 8)).as_py():
                    return None
                column = column.cast(pa.binary()).cast(TYPES[use]) if use == "hex" else column.cast(TYPES[use])
            if use == "hex":
                column, valid = decode_hex(column)
                if not valid:
                    return None
            if not self._is_valid(name, use, column):
                return None
            columns[name] = column
        return pa.table(columns)

    def _is_valid(self, name: str, use: str, column: pa.Array) -> bool:
        if name in self._required and column.null_count:
            return False
        if use == "binary":
            labels = column.drop_null() if column.null_count else column
            return not len(labels) or bool((numbers(labels, np.uint8) <= 1).all())
        if use in ("number", "weight"):
            values = numbers(column, np.float64)
            if use == "weight" and (values < 0.0).any():
                return False
            sizes = np.abs(values)
            # NaN fails every comparison.
            if not (sizes <= LARGEST).all():
                return bool((sizes[valid_of(column)] <= LARGEST).all())
        if name in self._negatives:
            return bool(pc.all(pc.is_in(column.drop_null(), value_set=self._negatives[name])).as_py() is not False)
        return True

    def _parse_by_line(self, text: bytes, first_line: int) -> Rows:
        lines = [line.rstrip(b"\r") for line in text.split(b"\n")[:-1]]
        bad: list[BadRow] = []
        positions: list[int] = []
        for position, line in enumerate(lines):
            if self._is_ignored(line):
                continue
            if fault := self._fault_of_line(line):
                bad.append(_bad(first_line + position, fault, line))
            else:
                positions.append(position)
        ignored = len(lines) - len(positions) - len(bad)
        tables, good = [self.empty], np.empty(0, np.int64)
        for indices, table in self._sift(lines, positions):
            if table is not None:
                tables.append(table)
                good = np.append(good, indices)
            else:
                line = lines[indices[0]]
                bad.append(_bad(first_line + indices[0], self._fault_of_field(line) or UNKNOWN, line))
        bad.sort(key=lambda row: row.line)
        order = np.argsort(good)
        return Rows(pa.concat_tables(tables).take(order), good[order], len(lines), bad, ignored)

    def _sift(self, lines: Sequence[bytes], positions: list[int]) -> Iterator[tuple[list[int], pa.Table | None]]:
        """Groups of lines with their columns; None for a bad line."""
        if not positions:
            return
        table = self._convert_lines(b"\n".join([*(lines[position] for position in positions), b""]), len(positions))
        if table is not None or len(positions) == 1:
            yield positions, table
            return
        suspect = []
        if len(positions) <= FEW_LINES:
            suspect = [position for position in positions if self._fault_of_field(lines[position])]
        for position in suspect:
            # A line that pyarrow accepts is good, whatever this check says; pyarrow refuses another number of fields.
            if not self._layout.quoted and len(self._split(lines[position])) != len(self._names):
                yield [position], None
            else:
                yield from self._sift(lines, [position])
        rest = [position for position in positions if position not in suspect]
        middle = 0 if suspect else len(rest) // 2
        yield from self._sift(lines, rest[:middle])
        yield from self._sift(lines, rest[middle:])

    def _is_ignored(self, line: bytes) -> bool:
        comment = self._layout.comment.encode()
        return bool(comment) and (not line or line.startswith(comment))

    def _fault_of_line(self, line: bytes) -> Fault | None:
        """The fault of a line that pyarrow might accept."""
        if b"\r" in line or b"\0" in line:
            return "", "", "a carriage return or NUL inside the line"
        if not line:
            return "", "1 fields", f"expected {len(self._names)} fields"
        if self._integers and HEX_NUMBER.search(line):
            fields = self._split(line)
            if len(fields) == len(self._names):
                values = (fields[self._index[name]].strip() for name in self._integers)
                return self._fault_of_field(line) if any(map(HEX_NUMBER.match, values)) else None
        return None

    def _fault_of_field(self, line: bytes) -> Fault | None:
        """The first fault of a field of a line; None: no field has one."""
        fields = self._split(line)
        if not fields:
            return UNKNOWN
        if len(fields) != len(self._names):
            return "", f"{len(fields)} fields", f"expected {len(self._names)} fields"
        for name, use in self._uses.items():
            field = fields[self._index[name]]
            try:
                value = field.decode()
            except UnicodeDecodeError:
                return name, field.decode(errors="backslashreplace"), f"expected {EXPECTED['string']}"
            trimmed = value.strip(" ") if self._layout.trim else value
            if trimmed in self._layout.missing:
                if name in self._required:
                    return name, value, self._required[name]
            elif not CHECKS[use](trimmed if self._layout.trim else value.strip(BLANKS) if use in BLANK else value):
                return name, value, f"expected {EXPECTED[use]}"
            elif name in self._negatives and trimmed not in (allowed := self._negatives[name].to_pylist()):
                return name, value, f"expected {shorten(' or '.join(allowed))}"
        return None

    def _split(self, line: bytes) -> list[bytes]:
        if not self._layout.quoted:
            return line.split(self._layout.separator.encode())
        text = line.decode(errors="surrogateescape")
        fields = split_quoted(text, self._layout.separator)
        return [field.encode(errors="surrogateescape") for field in fields]


def split_quoted(line: str, separator: str) -> list[str]:
    """The fields of a line, which may be in double quotes; empty where they cannot be split."""
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        return []


def _holds(characters: npt.NDArray[np.uint8], character: str) -> bool:
    spans = range(0, len(characters), CACHED_BYTES)
    return any((characters[start : start + CACHED_BYTES] == ord(character)).any() for start in spans)


def _bad(line: int, fault: Fault, text: bytes) -> BadRow:
    return BadRow(line, *fault, text=text.decode(errors="surrogateescape"))


def integer_of(text: str) -> int | None:
    """The 64-bit integer in a text; None: it is none. (Python's ``int`` refuses more than 4,300 digits.)"""
    parts = INTEGER.fullmatch(text)
    value = int(parts[1] + parts[2]) if parts else 2**63
    return value if -(2**63) <= value < 2**63 else None


def _is_number(text: str) -> bool:
    return NUMBER.fullmatch(text) is not None and abs(float(text)) <= LARGEST


CHECKS: dict[str, Callable[[str], bool]] = {
    "hex": lambda text: HEX.fullmatch(text) is not None,
    "integer": lambda text: integer_of(text) is not None,
    "number": _is_number,
    "weight": lambda text: _is_number(text) and float(text) >= 0.0,
    "string": lambda text: True,
    "binary": lambda text: integer_of(text) in (0, 1),
}

BLANK = ("integer", "number", "weight", "binary")
"""Uses whose values may be surrounded by blanks."""
