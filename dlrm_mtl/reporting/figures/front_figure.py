"""Arms by their average gain and that of the worst task, as a figure that stands alone."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dlrm_mtl.reporting.figures.panels import look, shorten
from dlrm_mtl.reporting.figures.svg import MUTED, PAPER, drawing, stand_alone, to_svg
from dlrm_mtl.reporting.runs.report_data import Record

WIDTH, HEIGHT = 800, 330
"""Of a panel in pixels. At its right the arms of the front are listed."""
LEFT, PLOT, BOTTOM, TOP = 64, 440, 46, 34
"""Margins of the axes and their width, in pixels."""


def front_figure(fronts: Mapping[str, Record]) -> str:
    """The figure as the text of an SVG file, one panel per front.

    Args:
        fronts: contents of front.json, by the panel's title.
    """
    height = HEIGHT * len(fronts)
    with drawing():
        figure = Figure(figsize=(WIDTH / 72, height / 72))
        for below, (title, front) in enumerate(reversed(list(fronts.items()))):
            bottom = HEIGHT * below + BOTTOM
            axes = figure.add_axes(
                (LEFT / WIDTH, bottom / height, PLOT / WIDTH, (HEIGHT - BOTTOM - TOP) / height),
                xlabel="average NE gain (%)",
                ylabel="NE gain of the worst task (%)",
            )
            axes.set_title(title, loc="left", fontsize=12)
            axes.tick_params(length=0)
            _draw(axes, front["arms"])
        return stand_alone(to_svg(figure, "front", "Average NE gain against the NE gain of the worst task"))


def _draw(axes: Axes, arms: Mapping[str, Record]) -> None:
    on_front = {arm: point for arm, point in arms.items() if point["on_front"]}
    line = _positions(on_front)
    others = _positions({arm: point for arm, point in arms.items() if arm not in on_front})
    axes.axhline(0, color=MUTED, linewidth=1)
    axes.axvline(0, color=MUTED, linewidth=1)
    axes.plot(*line.T, color=MUTED, linewidth=1.2, zorder=2)
    axes.plot(*others.T, ".", color=MUTED, markersize=7)
    for index, (arm, point) in enumerate(on_front.items()):
        color, (x, y) = look(index).color, line[index]
        x_sides, y_sides = (_sides(point[gain]) for gain in ("average", "worst"))
        axes.errorbar([x], [y], y_sides, x_sides, color=color, elinewidth=1, alpha=0.5)
        axes.plot([x], [y], "o", color=color, markersize=14, markeredgecolor=PAPER, zorder=4)
        axes.text(x, y, f"{index + 1}", color=PAPER, ha="center", va="center", fontsize=9.5, zorder=5)
        entry = f"{index + 1}  {shorten(arm, 44)}"
        axes.text(1.03, 0.98 - 0.08 * index, entry, color=color, va="top", fontsize=10, transform=axes.transAxes)
    _limit(axes, line, others)


def _limit(axes: Axes, line: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> None:
    """Shows the front, the control at 0 and as much around them again; counts the arms that lie farther away."""
    low, high = np.minimum(line.min(axis=0), 0), np.maximum(line.max(axis=0), 0)
    room = np.maximum(high - low, 0.1)
    low, high = low - 0.6 * room, high + 0.4 * room
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6))
    if outside := int(((others < low) | (others > high)).any(axis=1).sum()):
        axes.text(1.03, 0.02, f"not shown: {outside} of the other arms", fontsize=9.5, transform=axes.transAxes)


def _positions(arms: Mapping[str, Record]) -> npt.NDArray[np.float64]:
    """(P, 2) average and worst task's gain."""
    return np.array([(point["average"]["mean"], point["worst"]["mean"]) for point in arms.values()]).reshape(-1, 2)


def _sides(gain: Record) -> list[list[float]] | None:
    """Extent of the interval to both sides of the mean; None if there is none."""
    return None if gain["low"] is None else [[gain["mean"] - gain["low"]], [gain["high"] - gain["mean"]]]
