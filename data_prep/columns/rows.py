"""Parsed rows of a log, and rows that cannot be used."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

LINE_BYTES = 1 << 20
"""A longer line is a bad row."""

LARGEST = float(np.finfo(np.float32).max)
"""Largest magnitude of a number: a data set stores it in 32 bits."""

EXPECTED = {
    "hex": "8 hexadecimal digits",
    "integer": "a 64-bit integer",
    "number": "a finite number",
    "weight": "a row weight, a finite number from 0 on",
    "string": "UTF-8 text",
    "binary": "a label, 0 or 1",
}
"""What is expected of a value, by the use of its column (``Layout.uses``)."""

LABEL_MISSING = (
    "a label is missing; in the layout, missing_is_negative = true counts it as 0, and given = another label keeps it"
    " out of its task where that one is 0"
)

REGRESSION_LABEL_MISSING = LABEL_MISSING.replace("missing_is_negative", "missing_is_zero")

TEXT_OF_TOO_LONG = 200
"""Bytes that the bad row of a too long line keeps."""


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used."""

    line: int
    """Number of the line (of a parquet file: the row) within the segment, from 1."""
    column: str
    """Empty where the whole line is wrong."""
    value: str
    reason: str
    text: str
    """The line as it stands, or the beginning of a too long one; invalid UTF-8 as surrogates (``surrogateescape``). A
    row of a parquet file as JSON."""


@dataclass(frozen=True)
class Rows:
    """The rows of a block of a log."""

    table: pa.Table
    """The good rows; hexadecimal columns are uint32."""
    positions: npt.NDArray[np.int64]
    """Number of each row's line within the block, (B,), from 0."""
    lines: int
    """Lines of the block, good, bad and ignored."""
    bad: Sequence[BadRow] = ()
    ignored: int = 0
    """Comments and empty lines, where the layout allows them."""
    blank_end: int = 0
    """Blank lines at the end of the file. They are always ignored, and not part of ``lines``."""
    broken: str = ""
    """Why the file cannot be read beyond this block; empty where it can."""


@dataclass(frozen=True)
class Piece:
    """Rows of one segment of a file."""

    segment: int
    rows: Rows
    file_bytes: int
    """Bytes of the file that were read for these rows."""
    first_line: int
    """Number of their first line within the segment, from 1."""


def too_long(empty: pa.Table, text: memoryview, line: int) -> Rows:
    """The rows of one line that is too long.

    Args:
        empty: a table without rows, with the columns' types.
        text: the beginning of the line.
        line: its number within the segment, from 1.
    """
    beginning = bytes(text[:TEXT_OF_TOO_LONG]).decode(errors="surrogateescape")
    bad = BadRow(line, "", "", f"a line of more than {LINE_BYTES >> 20} MiB", beginning)
    return Rows(empty, np.empty(0, np.int64), 1, [bad])
