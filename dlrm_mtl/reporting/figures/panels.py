"""Panels of the report. Each is a figure of its own, so that a page fits them into columns and text stays readable on a
phone."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from dlrm_mtl.reporting.figures.curves import Curve
from dlrm_mtl.reporting.figures.svg import BETTER, GRID, INK, MUTED, PAPER, SERIES, SHADE, WORSE, to_svg
from dlrm_mtl.reporting.runs.report_data import Record
from dlrm_mtl.statistics.families import MARGIN

WIDTH, HEIGHT = 380, 230
"""Width of a panel in pixels, that of a phone's screen."""
DASHES = ("-", (0, (5, 2)), (0, (1.2, 1.5)), (0, (6, 2, 1.2, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "p", "<", ">")
LABEL = 17
"""Maximum number of characters of a name beside an axis."""


@dataclass(frozen=True)
class Look:
    """Colour, marker and dash that identify a line or point, also without colours."""

    color: str
    dashes: Any
    marker: str


BASELINE = Look(MUTED, (0, (3, 2)), "")


def look(index: int) -> Look:
    """The look of the index-th task, pair or arm."""
    return Look(SERIES[index % len(SERIES)], DASHES[index % len(DASHES)], MARKERS[index % len(MARKERS)])


def swatch(key: str, style: Look, line: bool = True) -> str:
    """A legend's sample of a line, or of a point."""
    figure = Figure(figsize=(34 / 72, 14 / 72))
    if line:
        figure.add_artist(Line2D([0.02, 0.98], [0.5, 0.5], color=style.color, linestyle=style.dashes))
    figure.add_artist(Line2D([0.5], [0.5], color=style.color, marker=style.marker, markersize=6 if line else 8))
    return to_svg(figure, key, "")


def gain_panel(
    key: str, label: str, gains: Sequence[tuple[str, Record | None]], reach: float, loss: str, *, apart: bool = True
) -> str:
    """Gains as intervals, one per row; the margin of equivalence is shaded.

    Args:
        loss: what they are gains in, for the axis.
        reach: the axis goes from -reach to reach; an arrow marks values beyond.
        apart: whether the first row is an average and is set apart.
    """
    names = [shorten(name) for name, _ in gains]
    height, left = 26 * len(gains) + 52, 24 + 6.6 * max(map(len, names))
    figure, axes = _axes((WIDTH, height), left, right=12, top=6)
    axes.axvspan(-MARGIN, MARGIN, color=SHADE, linewidth=0)
    axes.axvline(0, color=MUTED, linewidth=1)
    if apart:
        axes.axhline(0.5, color=GRID, linewidth=1)
    for row, (_, gain) in enumerate(gains):
        if gain is None:
            axes.text(0, row, "NEX", ha="center", va="center", color=WORSE, backgroundcolor=PAPER)
        else:
            _draw_gain(axes, row, gain, reach)
    axes.set(xlim=(-reach, reach), ylim=(len(gains) - 0.5, -0.5), xlabel=f"{loss} gain (%)")
    axes.set_yticks(range(len(gains)), names)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    return to_svg(figure, key, label)


def decile_panel(key: str, label: str, lines: Sequence[tuple[Look, Sequence[float | None]]], reach: float) -> str:
    """Predicted / observed by decile.

    Args:
        lines: ratios by decile, from the lowest predictions on; None if undefined.
        reach: the logarithmic axis goes from 1 / reach to reach; values beyond are drawn at its ends.
    """
    figure, axes = _axes()
    axes.set_yscale("log")
    axes.axhline(1, color=MUTED, linewidth=1)
    for style, ratios in lines:
        values = [float("nan") if ratio is None else min(max(ratio, 1 / reach), reach) for ratio in ratios]
        axes.plot(
            *(range(1, len(values) + 1), values),
            color=style.color,
            linestyle=style.dashes,
            marker=style.marker,
            markersize=4,
            linewidth=1.2,
        )
    axes.set(xlabel="decile of predictions", ylabel="predicted / observed")
    axes.set_ylim(1 / reach / 1.03, reach * 1.03)
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    ticks = [tick for tick in (0.125, 0.25, 0.5, 0.8, 1, 1.25, 2, 4, 8) if 1 / reach <= tick <= reach]
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return to_svg(figure, key, label)


def label_panel(key: str, label: str, lines: Sequence[tuple[Look, Sequence[Record]]]) -> str:
    """Mean label against mean prediction by decile of a regression, and the diagonal, where both are equal."""
    figure, axes = _axes()
    means = [decile[of] for _, deciles in lines for decile in deciles for of in ("predicted", "label")]
    axes.plot([min(means), max(means)], [min(means), max(means)], color=MUTED, linewidth=1)
    for style, deciles in lines:
        axes.plot(
            *([decile["predicted"] for decile in deciles], [decile["label"] for decile in deciles]),
            color=style.color,
            linestyle=style.dashes,
            marker=style.marker or "_",
            markersize=4,
            linewidth=1.2,
        )
    axes.set(xlabel="mean prediction", ylabel="mean label")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))
    return to_svg(figure, key, label)


def curve_panel(
    key: str,
    label: str,
    curves: Sequence[tuple[Look, Curve]],
    *,
    unit: str,
    limits: tuple[float, float],
    logarithmic: bool = False,
    over: str = "training step",
    level: float | None = None,
    marks: Sequence[float] = (),
) -> str:
    """Curves over training steps or days, with their bands.

    Args:
        over: label of the horizontal axis.
        level: where a horizontal line is drawn.
        marks: where dotted vertical lines are drawn.
    """
    figure, axes = _axes()
    if level is not None:
        axes.axhline(level, color=MUTED, linewidth=1)
    for mark in marks:
        axes.axvline(mark, color=MUTED, linewidth=1, linestyle=":")
    if logarithmic:
        axes.set_yscale("log", nonpositive="mask")
    axes.set_ylim(*limits)
    for index, (style, curve) in enumerate(curves):
        if curve.has_band:
            low, high = np.maximum(curve.low, limits[0]), np.maximum(curve.high, limits[0])
            axes.fill_between(curve.steps, low, high, color=style.color, alpha=0.15, linewidth=0)
        every = max(1, len(curve.steps) // 5)
        start = min(len(curve.steps) - 1, index * every // max(1, len(curves)))
        axes.plot(
            *(curve.steps, curve.mean),
            color=style.color,
            linestyle=style.dashes,
            marker=style.marker,
            markersize=5,
            # Markers are staggered, so that overlapping curves stay distinguishable.
            markevery=(start, every),
        )
        if (alone := curve.alone & (curve.mean >= limits[0])).any():
            axes.errorbar(
                *(curve.steps[alone], curve.mean[alone]),
                yerr=np.stack([curve.mean - curve.low, curve.high - curve.mean])[:, alone],
                color=style.color,
                linestyle="",
                marker=style.marker or "_",
                markersize=5,
            )
    axes.set(xlabel=over, ylabel=unit)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    if logarithmic:
        _logarithmic_ticks(axes)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.yaxis.set_label_coords(-52 / (WIDTH - 80), 0.5)
    return to_svg(figure, key, label)


def pareto_panel(
    key: str,
    label: str,
    tasks: tuple[str, str],
    points: Sequence[tuple[Look, Record, Record]],
    control: Look,
    reaches: Sequence[float],
    losses: Sequence[str],
) -> str:
    """Gains of one task against those of another, with both intervals; the control is at the origin.

    Args:
        reaches: maximum distance of both axes' ends from 0; intervals may run out of the figure.
        losses: what either task's gain is in, for the axes.
    """
    figure, axes = _axes((420, 340), left=70, top=12, bottom=46)
    axes.axhline(0, color=MUTED, linewidth=1)
    axes.axvline(0, color=MUTED, linewidth=1)
    for style, first, second in [(control, _ZERO, _ZERO), *points]:
        x, y = first["mean"], second["mean"]
        axes.errorbar(
            *([x], [y]),
            xerr=_sides(first),
            yerr=_sides(second),
            color=style.color,
            elinewidth=1.2,
            linestyle="",
        )
        axes.plot([x], [y], color=style.color, marker=style.marker, markersize=8, markeredgecolor=PAPER, zorder=4)
    axes.set(xlabel=f"{losses[0]} gain of {shorten(tasks[0], 34)} (%)")
    axes.set(ylabel=f"{losses[1]} gain of {shorten(tasks[1], 26)} (%)")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6))
    (left, right), (bottom, top) = (
        (max(low, -reach), min(high, reach))
        for (low, high), reach in zip((axes.get_xlim(), axes.get_ylim()), reaches, strict=True)
    )
    axes.fill_between([0, right], 0, top, color=SHADE, linewidth=0, zorder=0)
    axes.set(xlim=(left, right), ylim=(bottom, top))
    return to_svg(figure, key, label)


def shorten(name: str, length: int = LABEL) -> str:
    """A name with its middle cut out if it is too long; legends and tables have it in full."""
    if len(name) <= length:
        return name
    return f"{name[: length // 2]}…{name[-(length - length // 2 - 1) :]}"


def _axes(
    size: tuple[float, float] = (WIDTH, HEIGHT),
    left: float = 66,
    right: float = 14,
    top: float = 10,
    bottom: float = 44,
) -> tuple[Figure, Axes]:
    """A new figure and its axes; size and margins in pixels."""
    width, height = size
    figure = Figure(figsize=(width / 72, height / 72))
    figure.subplots_adjust(left=left / width, right=1 - right / width, top=1 - top / height, bottom=bottom / height)
    axes = figure.subplots()
    axes.tick_params(length=0)
    return figure, axes


_ZERO: Record = {"mean": 0.0, "low": 0.0, "high": 0.0}
VERDICT_MARKS = {"gain": (BETTER, "^", BETTER), "loss": (WORSE, "v", WORSE), "equivalent": (INK, "s", INK)}
"""Colour, marker and its face by verdict; an open circle without a verdict or with an inconclusive one."""


def _sides(gain: Record) -> list[list[float]] | None:
    """Extent of the interval to both sides of the mean; None if there is none."""
    if gain["low"] is None:
        return None
    return [[gain["mean"] - gain["low"]], [gain["high"] - gain["mean"]]]


def _draw_gain(axes: Axes, row: int, gain: Record, reach: float) -> None:
    color, marker, face = VERDICT_MARKS.get(gain.get("verdict") or "", (INK, "o", PAPER))
    ends = [gain["mean"] if end is None else end for end in (gain["low"], gain["high"])]
    low, high = max(ends[0], -reach), min(ends[1], reach)
    if low < high:
        axes.plot([low, high], [row, row], color=color, linewidth=2)
    if abs(gain["mean"]) <= reach:
        axes.plot([gain["mean"]], [row], color=color, marker=marker, markersize=7, markerfacecolor=face)
    for beyond, end, arrow in (
        (min(ends[0], gain["mean"]) < -reach, -0.97 * reach, "<"),
        (max(ends[1], gain["mean"]) > reach, 0.97 * reach, ">"),
    ):
        if beyond:
            axes.plot([end], [row], color=color, marker=arrow, markersize=7)


def _logarithmic_ticks(axes: Axes) -> None:
    """Ticks at powers of ten, written as numbers; also between them if the axis spans less than a factor of 100."""
    low, high = axes.get_ylim()
    powers = np.arange(floor(log10(low)), ceil(log10(high)) + 1)
    factors = (1,) if high / low > 1000 else (1, 3) if high / low > 30 else (1, 2, 5)
    ticks = [factor * 10.0**power for power in powers for factor in factors]
    ticks = [tick for tick in ticks if low <= tick <= high]
    axes.yaxis.set_major_locator(FixedLocator(ticks[:: max(1, ceil(len(ticks) / 7))] or [low, high]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.1g}"))
    axes.grid(color=GRID)
