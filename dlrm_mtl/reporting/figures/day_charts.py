"""Figures over the days of a stream."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dlrm_mtl.reporting.figures.chart import ASTRAY, Chart
from dlrm_mtl.reporting.figures.curve_charts import limits_of
from dlrm_mtl.reporting.figures.curves import Curve
from dlrm_mtl.reporting.figures.panels import BASELINE, Look, curve_panel, look, swatch
from dlrm_mtl.reporting.figures.svg import drawing
from dlrm_mtl.reporting.normalized_loss import gain_of, key_of, loss_name

Record = Mapping[str, Any]
Point = tuple[float | None, float | None, float | None]
"""A value with the ends of its band; None: there is none."""
Panels = Mapping[str, Mapping[str, Curve]]
"""Curves by heading and label."""

MOST = 8
"""Maximum number of features, or tables, in a figure."""
BAYES = "true probabilities (Bayes NE)"
CHANGES = " Dotted: the first day with a task, or the first one without it."


def day_charts(stream: Record) -> list[Chart]:
    """Figures of stream.json; those without any value are left out."""
    arms, tasks = list(stream["arms"]), stream["tasks"]
    treatments = [arm for arm in arms if arm != stream["control"]]
    looks = {arm: BASELINE if arm == stream["control"] else look(index - 1) for index, arm in enumerate(arms)}
    of_tasks = {task: _changes(stream, [task]) for task in tasks}
    seeds = " Mean over seeds; band: lowest to highest seed." if len(stream["seeds"]) > 1 else ""
    loss = loss_name(stream)
    charts = [
        _chart(
            "ne",
            f"{loss} of each day before training on it",
            f"Lower is better.{seeds}{CHANGES}",
            f"{loss} (no unit)",
            {
                task: {
                    **_by_arm(stream, task, arms, lambda record: _spread(record, key_of("ne", record))),
                    **_curves({BAYES: [_bayes_ne(day, task) for day in stream["days"]]}),
                }
                for task in tasks
            },
            {**looks, BAYES: look(len(arms) - 1)},
            of_tasks,
        ),
        _chart(
            "gain",
            f"{loss} gain of each day",
            f"Over {stream['control']} in %; above 0 is better. Band: 95 % interval of each day by itself, for other"
            f" seeds and other rows.{CHANGES}",
            f"{loss} gain (%)",
            {
                "average over the day's tasks": _by_arm(stream, None, treatments, _gain),
                **{task: _by_arm(stream, task, treatments, _gain) for task in tasks},
            },
            looks,
            of_tasks,
            level=0.0,
        ),
        _chart(
            "calibration",
            "Calibration of each day",
            "Mean prediction / base rate; 1 is right. Line: of the seed where it is farthest from 1; band: lowest to"
            f" highest seed.{CHANGES}",
            "calibration (no unit)",
            {task: _by_arm(stream, task, arms, lambda record: _spread(record, "calibration")) for task in tasks},
            looks,
            of_tasks,
            level=1.0,
        ),
        _chart(
            "mean-error",
            "Mean error of each day",
            "Of regressions: mean prediction - mean label; 0 is right. Line: of the seed where it is largest; band:"
            f" lowest to highest seed.{CHANGES}",
            "mean error (the label's unit)",
            {task: _by_arm(stream, task, arms, lambda record: _spread(record, "mean_error")) for task in tasks},
            looks,
            of_tasks,
            level=0.0,
        ),
        _chart(
            "weights",
            "Task weights",
            f"Mean over the day's windows.{seeds}{CHANGES}",
            "task weight (no unit)",
            {
                arm: _curves(
                    {task: _points(stream, arm, task, lambda record: _spread(record, "task_weight")) for task in tasks}
                )
                for arm in arms
            },
            {task: look(index) for index, task in enumerate(tasks)},
            {arm: _changes(stream, tasks) for arm in arms},
        ),
        _of_days(
            stream,
            "unseen",
            "Ids that are unseen before a day",
            "Share of each feature's ids.",
            "share of ids",
            lambda day: day["unseen_before"],
        ),
        _of_days(
            stream,
            "tables",
            "Ids of the tables",
            "Of the tables whose size changes.",
            "ids",
            lambda day: {table: facts["ids"] for table, facts in day["tables"].items()},
            changing=True,
        ),
        _of_days(
            stream,
            "recycled",
            "Ids that were recycled",
            "Share of each table's ids that have another value from this day on.",
            "share of ids",
            lambda day: {table: facts["recycled"] / facts["ids"] for table, facts in day["tables"].items()},
            changing=True,
        ),
    ]
    return [chart for chart in charts if chart is not None]


def _chart(
    name: str,
    title: str,
    caption: str,
    unit: str,
    panels: Panels,
    looks: Mapping[str, Look],
    marks: Mapping[str, Sequence[int]],
    level: float | None = None,
) -> Chart | None:
    """Panels with one axis; None without a curve."""
    drawn = {heading: curves for heading, curves in panels.items() if curves}
    if not drawn:
        return None
    labels = [label for label in looks if any(label in curves for curves in drawn.values())]
    with drawing():
        figures = [
            (
                heading,
                curve_panel(
                    *(f"{name}-{index}", f"{title}: {heading}"),
                    [(looks[label], curve) for label, curve in curves.items()],
                    unit=unit,
                    limits=_limits(list(curves.values()), level),
                    over="day",
                    level=level,
                    marks=marks.get(heading, ()),
                ),
            )
            for index, (heading, curves) in enumerate(drawn.items())
        ]
        legend = [(label, swatch(f"{name}-key-{index}", looks[label])) for index, label in enumerate(labels)]
    return Chart(name, title, caption, legend, figures)


def _of_days(
    stream: Record,
    name: str,
    title: str,
    caption: str,
    unit: str,
    pick: Callable[[Record], Mapping[str, float]],
    changing: bool = False,
) -> Chart | None:
    """One panel with the values of features or tables.

    Args:
        changing: whether those whose value is the same on all days are left out.
    """
    values = [pick(day) for day in stream["days"]]
    labels = dict.fromkeys(label for of_day in values for label in of_day)
    series = {label: [of_day.get(label) for of_day in values] for label in labels}
    if changing:
        series = {label: own for label, own in series.items() if len(set(own) - {None}) > 1}
    highest = sorted(series, key=lambda label: -max(value for value in series[label] if value is not None))[:MOST]
    if len(highest) < len(series):
        caption += f" The {MOST} with the highest values of {len(series)}."
    curves = _curves({label: [(value, None, None) for value in series[label]] for label in highest})
    return _chart(name, title, caption, unit, {"": curves}, {label: look(i) for i, label in enumerate(highest)}, {})


def _by_arm(stream: Record, task: str | None, arms: Iterable[str], pick: Callable[[Record], Point]) -> dict[str, Curve]:
    return _curves({arm: _points(stream, arm, task, pick) for arm in arms})


def _points(stream: Record, arm: str, task: str | None, pick: Callable[[Record], Point]) -> list[Point]:
    """A value of each day, of an arm or of its task."""
    points = []
    for day in stream["days"]:
        record = day["arms"].get(arm)
        if record is not None and task is not None:
            record = record["tasks"].get(task)
        points.append((None, None, None) if record is None else pick(record))
    return points


def _spread(record: Record, key: str) -> Point:
    """A value, with the lowest and the highest seed."""
    seeds = [one[key] for one in record["by_seed"] if one.get(key) is not None]
    return (record[key], min(seeds), max(seeds)) if seeds else (None, None, None)


def _bayes_ne(day: Record, task: str) -> Point:
    return day["evaluation"].get(task, {}).get("bayes_ne"), None, None


def _gain(record: Record) -> Point:
    gain = record["average_ne_gain_percent"] if "tasks" in record else gain_of(record)
    return (gain["mean"], gain["low"], gain["high"]) if gain else (None, None, None)


def _curves(points: Mapping[str, Sequence[Point]]) -> dict[str, Curve]:
    """Curves over the days, from the first to the last with a value; without those that have none."""
    curves = {}
    for label, of_days in points.items():
        values = np.array([[np.nan if end is None else end for end in point] for point in of_days], dtype=np.float64)
        there = np.flatnonzero(np.isfinite(values[:, 0]))
        if len(there):
            first, stop = there[0], there[-1] + 1
            mean, low, high = values[first:stop].T
            without = np.isnan(low)
            curves[label] = Curve(
                np.arange(first, stop, dtype=np.float64),
                mean,
                np.where(without, mean, low),
                np.where(without, mean, high),
            )
    return curves


def _changes(stream: Record, tasks: Sequence[str]) -> list[int]:
    """Numbers of the days on which one of the tasks is new, or has ended."""
    return [
        number
        for number, day in enumerate(stream["days"])
        if any(task in day["new_tasks"] or task in day["ended_tasks"] for task in tasks)
    ]


def _limits(curves: Sequence[Curve], level: float | None) -> tuple[float, float]:
    """Of the vertical axis. Wide intervals, as those of two seeds are, run out of the figure."""
    low, high = limits_of(curves, logarithmic=False, lowest=None)
    if level is None:
        return low, high
    reach = ASTRAY * max(float(np.nanmax(np.abs(curve.mean - level))) for curve in curves)
    if not reach:
        return low, high
    return min(max(low, level - reach), level - 0.05 * reach), max(min(high, level + reach), level + 0.05 * reach)
