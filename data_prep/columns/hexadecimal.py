"""Hexadecimal text of 8 digits and the numbers it stands for."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data_prep.columns.arrays import valid_of

NO_HEX = 0x100


def _hex_pairs() -> npt.NDArray[np.uint16]:
    """Table from a pair of characters, read as a little-endian 16-bit number, to its byte; ``NO_HEX`` for other
    characters than hexadecimal digits."""
    pairs = np.full(1 << 16, NO_HEX, np.uint16)
    digits = {ord(digit): int(digit, 16) for digit in "0123456789abcdefABCDEF"}
    for first, high in digits.items():
        for second, low in digits.items():
            pairs[first | second << 8] = high << 4 | low
    return pairs


HEX_PAIRS = _hex_pairs()


def decode_hex(array: pa.FixedSizeBinaryArray) -> tuple[pa.UInt32Array, bool]:
    """Decodes fields of 8 hexadecimal digits (B,), nulls kept; also returns whether all are valid."""
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


def hex_text(keys: npt.NDArray[np.uint32]) -> pa.LargeStringArray:
    """The 8 hexadecimal digits of each key."""
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    text = np.empty((len(keys), 8), np.uint8)
    for place in range(8):
        text[:, 7 - place] = digits[(keys >> np.uint32(4 * place)) & np.uint32(15)]
    offsets = np.arange(0, 8 * len(keys) + 1, 8, dtype=np.int64)
    return pa.LargeStringArray.from_buffers(len(keys), pa.py_buffer(offsets), pa.py_buffer(text))
