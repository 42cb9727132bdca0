"""Keys of categorical values."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.columns.hexadecimal import decode_hex, hex_text
from data_prep.ids.keys import hash_strings, key_type, keys_of
from dlrm_mtl.mixing import mix

DIGITS = st.text("0123456789abcdefABCDEF", min_size=8, max_size=8)
SLICES = st.tuples(st.integers(0, 12), st.integers(0, 30))


@settings(deadline=None)
@given(st.lists(st.none() | DIGITS, max_size=30), SLICES)
def test_hexadecimal_digits_are_the_numbers_that_python_reads(values: list[str | None], place: tuple[int, int]) -> None:
    encoded = [value and value.encode() for value in values]
    array = pa.array(encoded, pa.binary(8)).slice(*place)
    numbers, valid = decode_hex(array)
    expected = [None if value is None else int(value, 16) for value in values][place[0] : sum(place)]
    assert valid
    assert numbers.type == pa.uint32()
    assert numbers.to_pylist() == expected
    assert numbers.null_count == expected.count(None)


@pytest.mark.parametrize("place", range(8))
@pytest.mark.parametrize("character", [b"g", b" ", b"\0", b"/", b":", b"@", b"G", b"`", b"\xff", b"-"])
def test_other_characters_are_no_hexadecimal_digits(character: bytes, place: int) -> None:
    wrong = b"1234abCD"[:place] + character + b"1234abCD"[place + 1 :]
    assert not decode_hex(pa.array([b"00000000", wrong], pa.binary(8)))[1]
    # Keys of missing values are undefined.
    hidden = pa.Array.from_buffers(pa.binary(8), 2, [pa.py_buffer(b"\1"), pa.py_buffer(b"0000000f" + wrong)])
    numbers, valid = decode_hex(hidden)
    assert valid
    assert numbers.to_pylist() == [15, None]


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), max_size=50))
def test_hexadecimal_text_and_back(values: list[int]) -> None:
    text = hex_text(np.array(values, np.uint32))
    assert text.to_pylist() == [f"{value:08x}" for value in values]
    if values:
        assert decode_hex(text.cast(pa.binary()).cast(pa.binary(8)))[0].to_pylist() == values


TEXT = st.one_of(st.text(max_size=20), st.text(st.sampled_from("a\0"), max_size=40), st.text(min_size=50, max_size=200))


@settings(deadline=None)
@given(st.lists(st.none() | TEXT, max_size=30), SLICES)
def test_a_hash_is_a_function_of_the_bytes_alone(values: list[str | None], place: tuple[int, int]) -> None:
    start, stop = place[0], sum(place)
    hashes = hash_strings(pa.array(values, pa.string()).slice(*place))
    alone = [hash_strings(pa.array([value], pa.string()))[0] if value is not None else None for value in values]
    assert hashes.dtype == np.uint64
    assert [
        value is None or found == wanted
        for value, found, wanted in zip(values[start:stop], hashes.tolist(), alone[start:stop], strict=True)
    ] == [True] * len(hashes)


def test_similar_strings_have_different_hashes() -> None:
    numbers = [str(number) for number in range(300_000)]
    zeros = ["\0" * length for length in range(300)]
    repeated = [unit * times for unit in ("a", "ab", "abcdefgh", "abcdefghi") for times in range(1, 300)]
    padded = [text + "\0" * more for text in ("a", "abcdefgh", "abcdefghabcdefgh") for more in range(1, 20)]
    swapped = [f"{first:08d}{second:08d}" for first in range(300) for second in range(300)]
    strings = sorted({*numbers, *zeros, *repeated, *padded, *swapped})
    hashes = hash_strings(pa.array(strings))
    assert len(np.unique(hashes)) == len(strings)
    # Each bit is set in half of the hashes.
    shares = [float(np.mean((hashes >> np.uint64(bit)) & np.uint64(1))) for bit in range(64)]
    assert all(abs(share - 0.5) < 0.005 for share in shares)


def test_the_finaliser_is_a_bijection() -> None:
    values = np.concatenate([np.arange(200_000, dtype=np.uint64), np.uint64(1) << np.arange(64, dtype=np.uint64)])
    assert len(np.unique(mix(values))) == len(np.unique(values))


def test_keys_of_integers_are_their_bits() -> None:
    values = [0, 1, -1, 2**63 - 1, -(2**63), None]
    keys = keys_of(pa.array(values, pa.int64()))
    assert keys[:5].tolist() == [value % 2**64 for value in values if value is not None]
    assert keys_of(pa.array([1, 2, 3], pa.int64()).slice(1)).tolist() == [2, 3]
    assert keys_of(pa.array([1, 2, 2**32 - 1], pa.uint32()).slice(1)).tolist() == [2, 2**32 - 1]
    assert (key_type("hex"), key_type("integer"), key_type("string")) == (np.uint32, np.uint64, np.uint64)
