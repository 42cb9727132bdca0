"""Arrow arrays as NumPy arrays, without copies."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Mask = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]

NULL = int(np.iinfo(np.int64).min)
"""Stands for an empty field among ``Integers``."""


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


def to_integers(column: pa.Array | pa.ChunkedArray) -> Integers:
    """A column of integers, ``NULL`` where it is null."""
    return np.asarray(pc.fill_null(column, NULL).to_numpy(zero_copy_only=False), np.int64)
