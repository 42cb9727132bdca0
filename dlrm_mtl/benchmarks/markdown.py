"""Tables of results. Free of torch."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is of names, the others are of numbers."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def cell(spread: Mapping[str, Any], form: str = ".2f", scale: float = 1.0) -> str:
    """Median (P10 .. P90) in a table."""
    median, p10, p90 = (f"{spread[key] * scale:{form}}" for key in ("median", "p10", "p90"))
    return f"{median} ({p10} .. {p90})"
