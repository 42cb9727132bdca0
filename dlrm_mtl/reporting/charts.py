"""Which figures a comparison gets, with their legends and captions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Any

import numpy as np

from dlrm_mtl.reporting.curves import Curve, Pick, draw_curve, windows_per_point
from dlrm_mtl.reporting.figures import BASELINE, Look, curve_panel, gain_panel, look, pareto_panel, swatch
from dlrm_mtl.reporting.report_data import Record, ReportData
from dlrm_mtl.reporting.svg import drawing

POINTS = 300
"""Points of a curve, at most."""
POINTS_OF_ALL = 24_000
"""Points of all curves of a chart together: with many arms and tasks each gets fewer, so that the file stays small."""
SMALL = 8
"""An arm whose gains end at this part of the axis has one of its own."""
MARGIN = 1.08
MOST_PAIRS = 10
"""Cosines of single pairs of tasks in a panel; with more tasks a task has one curve, the mean over its pairs."""


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


def gain_chart(data: ReportData) -> Chart:
    """NE gains, one panel per arm."""
    gains = {
        arm: [
            ("average", data.comparison["arms"][arm]["average_ne_gain_percent"]),
            *((task, data.comparison["arms"][arm]["tasks"][task]["ne_gain_percent"]) for task in data.tasks),
        ]
        for arm in data.treatments
    }
    reach, cut = _reach([[gain for _, gain in rows] for rows in gains.values()])
    caption = (
        f"NE gain over {data.control} in % (100 times the difference of NE), with 95 % intervals; right of 0 is better."
        " Filled triangles: the interval excludes 0; open circles: it does not. Shaded: less than the paper's 0.05."
    )
    if cut:
        caption += " Arrows: beyond the axis, see the table."
    own = {arm: end for arm, rows in gains.items() if 0 < (end := _end([gain for _, gain in rows])) < reach / SMALL}
    if own:
        caption += " Same axis in all panels but those of small gains, which say so."
    axes = {arm: MARGIN * own[arm] if arm in own else reach for arm in gains}
    with drawing():
        panels = [
            (
                f"{arm} (axis of its own)" if arm in own else arm,
                gain_panel(f"gain-{index}", f"NE gain of {arm} per task", values, axes[arm]),
            )
            for index, (arm, values) in enumerate(gains.items())
        ]
    return Chart("gain", "NE gain per task", caption, [], panels)


def pareto_chart(data: ReportData, tasks: tuple[str, str] | None) -> Chart | None:
    """The gain of one task against that of another, by default the two whose gains differ most between arms; None if
    there is but one task.

    Raises:
        ValueError: a task that is not there, or the same one twice.
    """
    if tasks is not None:
        for task in tasks:
            if task not in data.tasks:
                raise ValueError(f"--pareto names task {task!r}, expected one of {', '.join(data.tasks)}")
        if tasks[0] == tasks[1]:
            raise ValueError(f"--pareto names task {tasks[0]!r} twice, expected two tasks")
    if len(data.tasks) < 2:
        return None
    arms = data.comparison["arms"]
    gains = {arm: [arms[arm]["tasks"][task]["ne_gain_percent"] for task in data.tasks] for arm in data.arms}
    if tasks is None:
        widest = sorted(data.tasks, key=lambda task: -_spread(gains, data.tasks.index(task)))[:2]
        tasks = (widest[0], widest[1])
    columns = [data.tasks.index(task) for task in tasks]
    shown = {arm: [gains[arm][column] for column in columns] for arm in data.treatments}
    missing = [arm for arm, pair in shown.items() if None in pair]
    looks = {arm: look(index) for index, arm in enumerate(data.treatments)}
    control = Look(BASELINE.color, "-", "o")
    points = [(looks[arm], *pair) for arm, pair in shown.items() if arm not in missing]
    caption = (
        f"Gain of {tasks[0]} against gain of {tasks[1]}, one point per arm with both 95 % intervals; {data.control} is"
        " at the origin. Shaded: both tasks gain. An arm is dominated by those above and to the right of it."
    )
    if missing:
        caption += f" Left out, as a loss exploded: {', '.join(missing)}."
    with drawing():
        legend = [
            (name, swatch(f"pareto-key-{index}", style, line=False))
            for index, (name, style) in enumerate({data.control: control, **looks}.items())
            if name not in missing
        ]
        figure = pareto_panel("pareto", f"Gain of {tasks[0]} against gain of {tasks[1]}", tasks, points, control)
    return Chart("pareto", f"Pareto view: {tasks[0]} against {tasks[1]}", caption, legend, [("", figure)])


def curve_charts(data: ReportData) -> list[Chart]:
    """What happened over the training steps; none if no metrics.jsonl is there."""
    tasks = {task: task for task in data.tasks}
    cosines, of_cosines = _cosines(data.tasks)
    log = {"logarithmic": True}
    charts = [
        _by_arm(data, "weights", "Task weights", "task weight (no unit)", _picks("task_weights", tasks)),
        _by_arm(
            *(data, "norms", "Gradient norms before weighting", "gradient norm (nats)"),
            *(_picks("gradient_norms", tasks), NORMS, log),
        ),
        _by_arm(
            *(data, "weighted-norms", "Gradient norms after weighting", "gradient norm (nats)"),
            *(_picks("weighted_gradient_norms", tasks), NORMS, log),
        ),
        _by_arm(data, "cosines", "Cosines between tasks", "cosine (no unit)", cosines, of_cosines),
        _against_control(data, "gap", "Pareto gap", "Pareto gap (nats)", "pareto_gap", GAP),
        _against_control(data, "speed", "QPS over windows", "samples per second", "qps", SPEED),
    ]
    return [chart for chart in charts if chart is not None]


NORMS = (
    "Of each task's gradient with respect to the shared representation, of the global batch, at the last step of a"
    " window. Logarithmic: a norm of 0, of a task without gradient in that batch or with weight 0, has no place on the"
    " axis, which ends at a ten-thousandth of the highest norm."
)
GAP = "The norm of the smallest convex combination of the tasks' gradients: 0 at a Pareto-stationary point."
SPEED = "Of all windows, also those of the warm-up, which the table leaves out."
LOWEST_NORM = 1e-4


def _by_arm(
    data: ReportData, name: str, title: str, unit: str, picks: Mapping[str, Pick], note: str = "", options: Any = None
) -> Chart | None:
    """A panel per arm, in it a curve per task or pair of tasks."""
    if not picks:
        return None
    curves, points = _draw(data, data.arms, picks)
    drawn = {arm: own for arm, own in curves.items() if own}
    if not drawn:
        return None
    options = options or {}
    looks = {label: look(index) for index, label in enumerate(picks)}
    limits = _limits([curve for own in drawn.values() for curve in own.values()], bool(options))
    with drawing():
        panels = [
            (
                f"{arm}{' (control)' if arm == data.control else ''}",
                curve_panel(
                    *(f"{name}-{index}", f"{title} of {arm} over training steps"),
                    [(looks[label], curve) for label, curve in own.items()],
                    unit=unit,
                    limits=limits,
                    **options,
                ),
            )
            for index, (arm, own) in enumerate(drawn.items())
        ]
        legend = [(label, swatch(f"{name}-key-{index}", style)) for index, (label, style) in enumerate(looks.items())]
    return Chart(name, title, _caption(data, note, points, "Same axes in all panels."), legend, panels)


def _against_control(data: ReportData, name: str, title: str, unit: str, key: str, note: str) -> Chart | None:
    """A panel per arm, in it its curve and the control's."""
    curves, points = _draw(data, data.arms, {key: lambda window: window[key]})
    drawn = {arm: own[key] for arm, own in curves.items() if own}
    if not drawn:
        return None
    limits = _limits(list(drawn.values()), logarithmic=False, lowest=0.0)
    control = [(BASELINE, drawn[data.control])] if data.control in drawn else []
    with drawing():
        panels = [
            (
                arm,
                curve_panel(
                    *(f"{name}-{index}", f"{title} of {arm} and of the control over training steps"),
                    [*control, (look(0), drawn[arm])],
                    unit=unit,
                    limits=limits,
                ),
            )
            for index, arm in enumerate(data.treatments)
            if arm in drawn
        ]
        legend = [
            (f"control, {data.control}", swatch(f"{name}-key-0", BASELINE)),
            ("the arm", swatch(f"{name}-key-1", look(0))),
        ]
    return Chart(name, title, _caption(data, note, points, "Same axes in all panels."), legend, panels)


def _draw(
    data: ReportData, arms: Sequence[str], picks: Mapping[str, Pick]
) -> tuple[dict[str, dict[str, Curve]], tuple[int, int]]:
    """Curves of each arm, and of the longest the windows and those per point."""
    points = max(20, min(POINTS, POINTS_OF_ALL // (len(arms) * len(picks))))
    found: dict[str, dict[str, Curve]] = {}
    longest = 0
    for arm in arms:
        seeds = data.windows(arm)
        longest = max([longest, *(len(windows) for windows in seeds)])
        drawn = {label: draw_curve(seeds, pick, points) for label, pick in picks.items()}
        found[arm] = {label: curve for label, curve in drawn.items() if curve is not None}
    return found, (longest, windows_per_point(max(1, longest), points))


def _caption(data: ReportData, note: str, points: tuple[int, int], end: str) -> str:
    windows, per_point = points
    seeds = max(len(data.windows(arm)) for arm in data.arms)
    parts = [note]
    if seeds > 1:
        parts.append("Mean over seeds; band: lowest to highest seed.")
    if per_point > 1:
        parts.append(f"Thinned out: of {windows:,} logged windows each point is the mean of {per_point}.")
    else:
        parts.append("Not smoothed: a point per logged window.")
    return " ".join([*filter(None, parts), end])


def _picks(key: str, names: Mapping[str, str]) -> dict[str, Pick]:
    """Curves of the entries of a record, such as task_weights."""

    def pick(name: str) -> Pick:
        def value(window: Record) -> float | None:
            found: float | None = (window[key] or {}).get(name)
            return found

        return value

    return {label: pick(name) for label, name in names.items()}


def _cosines(tasks: Sequence[str]) -> tuple[dict[str, Pick], str]:
    """Curves of cosines, and what is to be said of them."""
    note = "Between the tasks' gradients with respect to the shared representation; below 0 they are in conflict."
    pairs = list(combinations(tasks, 2))
    if len(pairs) <= MOST_PAIRS:
        return _picks("cosines", {f"{a} and {b}": f"{a}/{b}" for a, b in pairs}), note

    def mean(task: str) -> Pick:
        names = [f"{a}/{b}" for a, b in pairs if task in (a, b)]

        def value(window: Record) -> float | None:
            found = [(window["cosines"] or {}).get(name) for name in names]
            known = [cosine for cosine in found if cosine is not None]
            return sum(known) / len(known) if known else None

        return value

    return {task: mean(task) for task in tasks}, f"{note} Of each task the mean over its pairs with the others."


def _limits(curves: Sequence[Curve], logarithmic: bool, lowest: float | None = None) -> tuple[float, float]:
    """Ends of the vertical axis that all panels share."""
    high = max(float(np.nanmax(curve.high)) for curve in curves)
    if logarithmic:
        high = high or 1.0
        positive = [float(value) for curve in curves for value in curve.mean if value > 0]
        return max(min(positive, default=high), LOWEST_NORM * high) / 1.3, high * 1.3
    low = min(float(np.nanmin(curve.low)) for curve in curves)
    low = low if lowest is None else min(low, lowest)
    margin = 0.06 * ((high - low) or abs(high) or 1.0)
    return (low if low == lowest else low - margin), high + margin


def _reach(gains: Sequence[Sequence[Record | None]]) -> tuple[float, bool]:
    """How far the axis of gains goes to both sides, and whether something lies beyond: one arm that went astray must
    not press all others into a line."""
    known = [end for end in map(_end, gains) if end > 0] or [1.0]
    reach = MARGIN * min(max(known), 4 * median(known))
    return reach, max(known) > reach


def _end(gains: Sequence[Record | None]) -> float:
    """The end of an interval that is farthest from 0."""
    return max((abs(end) for gain in gains if gain for end in (gain["low"], gain["high"])), default=0.0)


def _spread(gains: Mapping[str, Sequence[Record | None]], task: int) -> float:
    known = [gain["mean"] for arm in gains.values() if (gain := arm[task]) is not None]
    return max(known) - min(known) if known else 0.0
