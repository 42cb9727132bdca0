"""Quoted values are short and safe for a terminal."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlrm_mtl.quoting import printable, quote, shorten

STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("click", "'click'"),
        ("名前 ü", "'名前 ü'"),
        ("\x1b[31m", r"'\x1b[31m'"),
        ("a\u202eb", r"'a\u202eb'"),
        (7, "7"),
        (b"\x1f\x8b", r"b'\x1f\x8b'"),
    ],
)
def test_what_is_short_stands_as_it_is(value: object, text: str) -> None:
    assert quote(value) == text


@given(st.text() | st.binary() | st.lists(st.text()) | st.dictionaries(st.text(), st.text()), st.integers(20, 200))
def test_a_quotation_is_printable_and_short(value: object, limit: int) -> None:
    text = quote(value, limit)
    assert len(text) <= limit
    assert not STEERING.search(text)


@given(st.text(), st.integers(20, 200))
def test_a_shortened_text_is_printable_and_short(text: str, limit: int) -> None:
    assert len(shorten(text, limit)) <= limit
    assert not STEERING.search(printable(text))
    assert printable(printable(text)) == printable(text)


def test_quoting_large_values() -> None:
    for value in ("x" * 10**8, b"x" * 10**8, list(range(10**6)), 10**6000):
        assert len(quote(value)) <= 80
