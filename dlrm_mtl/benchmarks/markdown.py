"""Tables of results. Free of torch."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dlrm_mtl.statistics.speed import median_interval

INTERVAL = "median [95 % interval]"
"""Heading of a column of ratios or differences."""


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with names in the first column and numbers in the others."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def cell(spread: Mapping[str, Any], form: str = ".2f", scale: float = 1.0) -> str:
    """Median (P10 .. P90) in a table."""
    median, p10, p90 = (f"{spread[key] * scale:{form}}" for key in ("median", "p10", "p90"))
    return f"{median} ({p10} .. {p90})"


def with_interval(spread: Mapping[str, Any], form: str = ".2f") -> str:
    """Median of a ratio or difference with its 95 % interval [low, high]; with too few windows for one, their number
    instead."""
    windows = spread["windows"]
    interval = median_interval(windows)
    if interval is None:
        return f"{spread['median']:{form}} ({len(windows)} window{'s' * (len(windows) != 1)})"
    return f"{spread['median']:{form}} [{interval.low:{form}}, {interval.high:{form}}]"
