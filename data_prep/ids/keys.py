"""Keys: categorical values as unsigned integers, for counting, hashing and looking up without a loop over rows.

A hexadecimal value of 8 digits is its own 32-bit key; an integer is its own 64-bit key; a string has a 64-bit hash.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data_prep.columns.arrays import numbers
from data_prep.columns.hexadecimal import decode_hex, hex_text
from dlrm_mtl.mixing import U64, mix

Keys = npt.NDArray[np.unsignedinteger]


def hash_strings(array: pa.StringArray) -> npt.NDArray[np.uint64]:
    """64-bit hashes (B,) of strings by their bytes, undefined for nulls. Takes 8 bytes at a time of all rows at
    once."""
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


def keys_of(array: pa.Array) -> Keys:
    """Keys (B,) of a column of uint32 (hex), int64 or strings; undefined where null."""
    if pa.types.is_uint32(array.type):
        return numbers(array, np.uint32)
    if pa.types.is_int64(array.type):
        return numbers(array, np.uint64)
    return hash_strings(array)


def keys_of_values(values: pa.ChunkedArray, kind: str) -> Keys:
    """Keys (N,) of values as they stand in the vocabulary of a kind of column."""
    parts = [np.empty(0, key_type(kind))]
    for chunk in values.chunks:
        if kind == "hex":
            chunk = decode_hex(chunk.cast(pa.binary()).cast(pa.binary(8)))[0]
        parts.append(keys_of(chunk.cast(pa.string()) if kind == "string" else chunk))
    return np.concatenate(parts)


def values_of_keys(keys: Keys, texts: pa.Array, kind: str) -> pa.Array:
    """Values (N,) as they stand in a vocabulary.

    Args:
        texts: (N,) the values of kind ``string``, whose keys are hashes; of other kinds they are not read.
    """
    if kind == "hex":
        return hex_text(keys.astype(np.uint32, copy=False))
    return pa.array(keys.view(np.int64)) if kind == "integer" else texts


def key_type(kind: str) -> type[np.unsignedinteger]:
    """NumPy type of the keys of a kind of categorical column."""
    return np.uint32 if kind == "hex" else np.uint64
