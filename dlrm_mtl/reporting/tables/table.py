"""Tables, for Markdown and for HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlrm_mtl.reporting.escaping import text


class Name(str):
    """A cell with a user-given name, which may hold any characters."""


@dataclass(frozen=True)
class Table:
    """Cells as text or names, also in the header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    names: int = 1
    """Number of columns, from the left, that name a row."""

    def markdown(self) -> str:
        """As Markdown that is also readable in a terminal."""
        header, *rows = ([_escaped(cell) for cell in line] for line in (self.header, *self.rows))
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

        def line(cells: Sequence[str]) -> str:
            return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

        rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
        return "\n".join([line(header), rule, *map(line, rows)])


def number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def gain_cell(gain: Mapping[str, Any] | None, without: str = "NEX") -> str:
    """A gain with its interval; ``without`` stands for a missing gain."""
    return without if gain is None else f"{gain['mean']:+.3f} {ends_cell(gain, without='(no interval)')}"


def ends_cell(
    interval: Mapping[str, Any] | None, digits: int = 3, *, sign: str = "+", without: str = "no interval"
) -> str:
    """An interval; ``without`` stands for an unknown one."""
    if interval is None or interval["low"] is None:
        return without
    return f"[{interval['low']:{sign}.{digits}f}, {interval['high']:{sign}.{digits}f}]"


def _escaped(cell: str) -> str:
    return text(cell) if isinstance(cell, Name) else cell
