"""Arrow arrays as NumPy arrays, without copies."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Mask = npt.NDArray[np.bool_]


def one_chunk(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column as one array, without a copy where it is one already."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def valid_of(array: pa.Array) -> Mask:
    """Which values are not null (B,)."""
    if not array.null_count:
        return np.ones(len(array), bool)
    bits = np.frombuffer(array.buffers()[0], np.uint8)
    stop = array.offset + len(array)
    return np.unpackbits(bits, count=stop, bitorder="little")[array.offset :].view(bool)


def missing_of(array: pa.Array) -> Mask | None:
    """(B,) whether each value is null; None if none is."""
    return ~valid_of(array) if array.null_count else None


def numbers(array: pa.Array, kind: type[np.generic]) -> np.ndarray:
    """The values of a primitive array as NumPy type ``kind``, without a copy; undefined where null."""
    return np.frombuffer(array.buffers()[1], kind, len(array), array.offset * np.dtype(kind).itemsize)
