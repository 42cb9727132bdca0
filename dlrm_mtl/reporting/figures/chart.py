"""A figure of the report: panels with a legend and a caption."""

from collections.abc import Sequence
from dataclasses import dataclass

ASTRAY = 4
"""An arm whose values go to more than so many times the median arm's does not stretch the axes of the others."""


@dataclass(frozen=True)
class Chart:
    """Panels that are read together."""

    name: str
    title: str
    caption: str
    legend: Sequence[tuple[str, str]]
    """Names, and samples of their lines as SVG."""
    panels: Sequence[tuple[str, str]]
    """Headings, and figures as SVG."""


def panel_heading(name: str, own_axis: bool) -> str:
    """A panel's name, with a word if it does not share the others' axis."""
    return f"{name} (axis of its own)" if own_axis else name
