"""The growth benchmark as a page of figures."""

import html
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from dlrm_mtl.benchmarks.growth.growth import BALANCED, CONTROL
from dlrm_mtl.reporting.figures.panels import look
from dlrm_mtl.reporting.figures.svg import COLOR_RULES, drawing, to_svg

WIDTH, HEIGHT = 420, 300
"""Size of a panel in pixels."""


def growth_page(results: Mapping[str, Any]) -> str:
    """One panel per axis: steps per second with and without balancing, with a bar from P10 to P90. Self-contained."""
    panels: dict[str, list[Mapping[str, Any]]] = {}
    for point in results["points"]:
        if point["value"] is not None:
            panels.setdefault(point["axis"], []).append(point)
    with drawing():
        figures = [_panel(axis, points) for axis, points in panels.items()]
    base = ", ".join(f"{name} = {value:,}" for name, value in results["base"].items())
    environment = results["environment"]
    note = f"Base model: {base}. {environment['cpus']} CPUs, {environment['processor']}."
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Growth</title><style>\n'
        f"{COLOR_RULES}\n"
        "body { background: var(--paper); color: var(--ink); font: 15px system-ui, sans-serif; }\n"
        f"</style></head><body><h1>Steps per second</h1><p>{html.escape(note)}</p>\n{''.join(figures)}</body></html>\n"
    )


def _panel(axis: str, points: list[Mapping[str, Any]]) -> str:
    figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72))
    axes = figure.subplots()
    figure.subplots_adjust(left=0.16, right=0.97, top=0.97, bottom=0.17)
    values = [point["value"] for point in points]
    for index, arm in enumerate((CONTROL, BALANCED)):
        spreads = [point["steps_per_second"][arm] for point in points]
        middle = [spread["median"] for spread in spreads]
        bars = [[abs(spread["median"] - spread[end]) for spread in spreads] for end in ("p10", "p90")]
        style = look(index)
        axes.errorbar(
            *(values, middle),
            yerr=bars,
            color=style.color,
            linestyle=style.dashes,
            marker=style.marker,
            label=arm,
        )
    axes.set_xscale("log", base=2)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(FixedLocator(values))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set(xlabel=axis, ylabel="steps/s")
    axes.legend(frameon=False)
    return to_svg(figure, axis, f"steps per second over {axis}")
