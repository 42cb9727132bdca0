"""A figure of the report: panels with a legend and a caption."""

from collections.abc import Sequence
from dataclasses import dataclass

ASTRAY = 4
"""An arm whose values exceed this multiple of the median arm's gets axes of its own."""


@dataclass(frozen=True)
class Chart:
    """Panels with a common legend and caption."""

    name: str
    title: str
    caption: str
    legend: Sequence[tuple[str, str]]
    """Names with samples of their lines, as SVG."""
    panels: Sequence[tuple[str, str]]
    """Headings with figures, as SVG."""


def panel_heading(name: str, own_axis: bool) -> str:
    """A panel's name, with a note if its axis differs from the others'."""
    return f"{name} (axis of its own)" if own_axis else name
