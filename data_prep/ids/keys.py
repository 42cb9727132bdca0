"""Keys: categorical values as unsigned integers, for counting, hashing and looking up without a loop over rows.

A hexadecimal value of 8 digits is its own 32-bit key; an integer is its own 64-bit key; a string has a 64-bit hash.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dlrm_mtl.mixing import U64, mix

Keys = npt.NDArray[np.unsignedinteger]
Mask = npt.NDArray[np.bool_]

NO_HEX = 0x100


def _hex_pairs() -> npt.NDArray[np.uint16]:
    """The byte that each pair of characters stands for, at the number that the pair is in memory; ``NO_HEX`` for pairs
    that are none of hexadecimal digits."""
    pairs = np.full(1 << 16, NO_HEX, np.uint16)
    digits = {ord(digit): int(digit, 16) for digit in "0123456789abcdefABCDEF"}
    for first, high in digits.items():
        for second, low in digits.items():
            pairs[first | second << 8] = high << 4 | low
    return pairs


HEX_PAIRS = _hex_pairs()


def decode_hex(array: pa.FixedSizeBinaryArray) -> tuple[pa.UInt32Array, bool]:
    """The numbers that fields of 8 hexadecimal digits stand for, nulls kept, and whether all are such digits."""
    size = len(array)
    pairs = np.frombuffer(array.buffers()[1], np.uint16, 4 * size, 8 * array.offset)
    decoded = HEX_PAIRS.take(pairs.astype(np.intp), mode="clip").reshape(size, 4)
    validity = None
    if array.null_count:
        valid = valid_of(array)
        decoded[~valid] = 0
        validity = pa.py_buffer(np.packbits(valid, bitorder="little"))
    numbers = decoded.astype(np.uint8).view(">u4").astype(np.uint32)
    column = pa.Array.from_buffers(pa.uint32(), size, [validity, pa.py_buffer(numbers)])
    return column, size == 0 or bool(decoded.max() < NO_HEX)


def hash_strings(array: pa.StringArray) -> npt.NDArray[np.uint64]:
    """64-bit hashes of strings (nulls: any), a function of their bytes alone: 8 bytes at a time, all rows at once."""
    size = len(array)
    if size == 0:
        return np.empty(0, np.uint64)
    _, offset_buffer, data = array.buffers()
    offsets = np.frombuffer(offset_buffer, np.int32, size + 1, array.offset * 4).astype(np.int64)
    first, last = int(offsets[0]), int(offsets[-1])
    text = np.zeros(last - first + 8, np.uint8)
    if last > first:
        text[: last - first] = np.frombuffer(data, np.uint8, last - first, first)
    words = np.ndarray((last - first + 1,), "<u8", buffer=text.data, strides=(1,))
    starts, lengths = offsets[:-1] - first, np.diff(offsets)
    hashes = mix(lengths.astype(np.uint64) + U64(0x9E3779B97F4A7C15))
    active = np.flatnonzero(lengths > 0)
    done = 0
    while len(active):
        left = np.minimum(lengths[active] - done, 8).astype(np.uint64)
        word = words[starts[active] + done] & (U64(0xFFFFFFFFFFFFFFFF) >> (U64(64) - U64(8) * left))
        hashes[active] = mix(hashes[active] * U64(0xD1342543DE82EF95) + word)
        done += 8
        active = active[lengths[active] > done]
    return hashes


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
    """Which values are null (B,); None where none is."""
    return ~valid_of(array) if array.null_count else None


def numbers(array: pa.Array, kind: type[np.generic]) -> np.ndarray:
    """The values of a primitive array of that kind, without a copy; anything where null."""
    return np.frombuffer(array.buffers()[1], kind, len(array), array.offset * np.dtype(kind).itemsize)


def keys_of(array: pa.Array) -> Keys:
    """Keys (B,) of a column of uint32 (hex), int64 or strings; anything where null."""
    if pa.types.is_uint32(array.type):
        return numbers(array, np.uint32)
    if pa.types.is_int64(array.type):
        return numbers(array, np.uint64)
    return hash_strings(array)


def key_type(kind: str) -> type[np.unsignedinteger]:
    """Type of the keys of a kind of categorical column."""
    return np.uint32 if kind == "hex" else np.uint64


def hex_text(keys: npt.NDArray[np.uint32]) -> pa.LargeStringArray:
    """The 8 hexadecimal digits of each key."""
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    text = np.empty((len(keys), 8), np.uint8)
    for place in range(8):
        text[:, 7 - place] = digits[(keys >> np.uint32(4 * place)) & np.uint32(15)]
    offsets = np.arange(0, 8 * len(keys) + 1, 8, dtype=np.int64)
    return pa.LargeStringArray.from_buffers(len(keys), pa.py_buffer(offsets), pa.py_buffer(text))
