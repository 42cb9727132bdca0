"""Sizes and bandwidths with units."""

import pytest

from dlrm_mtl.units import format_size, parse_bandwidth, parse_size
from tests.messages import naming


@pytest.mark.parametrize(
    ("text", "size"),
    [("80GiB", 80 * 2**30), ("80 GB", 80 * 10**9), ("1.5TiB", 3 * 2**39), ("7B", 7), ("2MiB", 2**21), ("1PB", 10**15)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size("hbm", text) == size
    assert parse_bandwidth("between", f"{text}/s") == size


@pytest.mark.parametrize("text", ["80", "80gb", "80Gb", "0GiB", "-1GiB", "GiB", "80GiB?", "80GiB/s", "nanGB", ""])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match=naming("hbm", "80GiB")) as error:
        parse_size("hbm", text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize("text", ["600GiB", "600", "0GB/s", "600Gbit/s"])
def test_what_is_no_bandwidth(text: str) -> None:
    with pytest.raises(ValueError, match=naming("between", "600GiB/s")):
        parse_bandwidth("between", text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (80 * 2**30, "80 GiB"), (1.5 * 2**20, "1.5 MiB"), (2**70, "1.049e+06 PiB")],
)
def test_sizes_as_text(size: float, text: str) -> None:
    assert format_size(size) == text
