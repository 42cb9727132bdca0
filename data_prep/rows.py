"""Parsed rows of a log, and those that could not be."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

LARGEST = float(np.finfo(np.float32).max)
"""Of a number: the data set has 32 bits for it."""

EXPECTED = {
    "hex": "8 hexadecimal digits",
    "integer": "a 64-bit integer",
    "number": "a finite number",
    "string": "UTF-8 text",
    "binary": "a label, 0 or 1",
}
"""What a value must be, by the use of its column (``Layout.uses``)."""


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used."""

    line: int
    """Line, or row of a parquet file: counted from 1, within the segment."""
    column: str
    """Empty where it is the whole line that is wrong."""
    value: str
    reason: str
    text: str
    """The line as it stands; bytes that are no UTF-8 as surrogates (``surrogateescape``). A row of a parquet file as
    JSON."""


@dataclass(frozen=True)
class Rows:
    """What a block of a log holds."""

    table: pa.Table
    """The good rows; a column of hexadecimal values is of uint32."""
    positions: npt.NDArray[np.int64]
    """Number of each row's line within the block, (B,), from 0."""
    lines: int
    """Lines of the block, of whatever sort."""
    bad: Sequence[BadRow] = ()
    ignored: int = 0
    """Comments and empty lines, where the layout allows any."""


@dataclass(frozen=True)
class Piece:
    """Rows of one segment of a file."""

    segment: int
    rows: Rows
    file_bytes: int
    """Bytes of the file that were read for them."""
