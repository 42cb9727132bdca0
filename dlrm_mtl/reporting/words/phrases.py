"""Parts of sentences."""

from collections.abc import Mapping, Sequence
from typing import Any


def gain_text(gain: Mapping[str, Any] | None) -> str:
    """A gain with its interval, if there is one."""
    if gain is None:
        return "NEX"
    return f"{gain['mean']:+.3f} % {interval_text(gain, 3)}".rstrip()


def interval_text(interval: Mapping[str, Any] | None, digits: int) -> str:
    """``[low, high]``; empty if there is no interval."""
    if interval is None or interval["low"] is None:
        return ""
    return f"[{interval['low']:+.{digits}f}, {interval['high']:+.{digits}f}]"


def join_words(items: Sequence[str]) -> str:
    """``a, b and c``; with semicolons if an item contains a comma, as names of arms may."""
    if len(items) < 2:
        return "".join(items)
    comma = "; " if any("," in item for item in items) else ", "
    return f"{comma.join(items[:-1])} and {items[-1]}"


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def name_seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {join_words([str(seed) for seed in seeds])}"
