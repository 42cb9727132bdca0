"""Memory sizes and bandwidths with units."""

import math
import re

from dlrm_mtl.config import require

UNITS = {"B": 1, **{f"{p}B": 1000**n for n, p in enumerate("KMGTP", 1)}}
UNITS |= {f"{p}iB": 1024**n for n, p in enumerate("KMGTP", 1)}


def parse_size(name: str, text: str) -> int:
    """Bytes of a size such as 80GiB (1024-based) or 80GB (1000-based).

    Raises:
        ValueError: it has no or an unknown unit, or is not positive; the message begins with ``name``.
    """
    return round(_parse(name, text, "", "a size with its unit, as 80GiB (1024-based) or 80GB (1000-based)"))


def parse_bandwidth(name: str, text: str) -> float:
    """Bytes per second of a bandwidth such as 600GiB/s or 900GB/s.

    Raises:
        ValueError: see :func:`parse_size`.
    """
    return _parse(name, text, "/s", "a bandwidth with its unit, as 600GiB/s (1024-based) or 900GB/s (1000-based)")


def mib(size: float) -> float:
    """Bytes in MiB."""
    return size / 1024**2


def gib(size: float) -> float:
    """Bytes in GiB."""
    return size / 1024**3


def format_size(size: float) -> str:
    """Formats bytes in a unit that needs few digits."""
    power = min(int(math.log(size, 1024)), 5) if size >= 1 else 0
    unit = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"][power]
    return f"{size / 1024**power:.4g} {unit}"


def _parse(name: str, text: str, suffix: str, expected: str) -> float:
    match = re.fullmatch(rf"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+){suffix}", text)
    require(name, text, match is not None and match[2] in UNITS and float(match[1]) > 0, expected)
    assert match is not None
    return float(match[1]) * UNITS[match[2]]
