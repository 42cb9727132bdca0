"""Figures over the training steps, with legends and captions."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import median
from typing import Any

import numpy as np

from dlrm_mtl.reporting.figures.chart import ASTRAY, Chart, panel_heading
from dlrm_mtl.reporting.figures.curves import Curve, Pick, draw_curve, windows_per_point
from dlrm_mtl.reporting.figures.panels import BASELINE, curve_panel, look, swatch
from dlrm_mtl.reporting.figures.svg import drawing
from dlrm_mtl.reporting.runs.report_data import Record, ReportData
from dlrm_mtl.run_directory import pair_name

POINTS = 300
"""Maximum number of points of a curve."""
POINTS_OF_ALL = 24_000
"""Maximum number of points of all curves of a chart, so that the file stays small with many arms and tasks."""
MOST_PAIRS = 10
"""Maximum number of task pairs in a panel of cosines; with more, each task has one curve, the mean over its pairs."""


def curve_charts(data: ReportData) -> list[Chart]:
    """Charts over the training steps; none without a metrics.jsonl."""
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
    """One panel per arm with one curve per task or pair of tasks."""
    if not picks:
        return None
    curves, points = _draw(data, data.arms, picks)
    drawn = {arm: own for arm, own in curves.items() if own}
    if not drawn:
        return None
    options = options or {}
    looks = {label: look(index) for index, label in enumerate(picks)}
    limits, axes = _share({arm: list(own.values()) for arm, own in drawn.items()}, bool(options))
    with drawing():
        panels = [
            (
                panel_heading(f"{arm} (control)" if arm == data.control else arm, limits[arm] != axes),
                curve_panel(
                    *(f"{name}-{index}", f"{title} of {arm} over training steps"),
                    [(looks[label], curve) for label, curve in own.items()],
                    unit=unit,
                    limits=limits[arm],
                    **options,
                ),
            )
            for index, (arm, own) in enumerate(drawn.items())
        ]
        legend = [(label, swatch(f"{name}-key-{index}", style)) for index, (label, style) in enumerate(looks.items())]
    return Chart(name, title, _caption(data, note, points), legend, panels)


def _against_control(data: ReportData, name: str, title: str, unit: str, key: str, note: str) -> Chart | None:
    """One panel per arm with its curve and the control's."""
    curves, points = _draw(data, data.arms, {key: lambda window: window[key]})
    drawn = {arm: own[key] for arm, own in curves.items() if own}
    if not drawn:
        return None
    limits, axes = _share({arm: [curve] for arm, curve in drawn.items()}, logarithmic=False, lowest=0.0)
    control = [(BASELINE, drawn[data.control])] if data.control in drawn else []
    with drawing():
        panels = [
            (
                panel_heading(arm, limits[arm] != axes),
                curve_panel(
                    *(f"{name}-{index}", f"{title} of {arm} and of the control over training steps"),
                    [*control, (look(0), drawn[arm])],
                    unit=unit,
                    limits=limits[arm],
                ),
            )
            for index, arm in enumerate(data.treatments)
            if arm in drawn
        ]
        legend = [
            (f"control, {data.control}", swatch(f"{name}-key-0", BASELINE)),
            ("the arm", swatch(f"{name}-key-1", look(0))),
        ]
    return Chart(name, title, _caption(data, note, points), legend, panels)


def _draw(
    data: ReportData, arms: Sequence[str], picks: Mapping[str, Pick]
) -> tuple[dict[str, dict[str, Curve]], tuple[int, int]]:
    """Curves of each arm; the windows of the longest curve, and its windows per point."""
    points = max(20, min(POINTS, POINTS_OF_ALL // (len(arms) * len(picks))))
    curves: dict[str, dict[str, Curve]] = {}
    longest = 0
    for arm in arms:
        seeds = data.windows(arm)
        longest = max([longest, *(len(windows) for windows in seeds)])
        drawn = {label: draw_curve(seeds, pick, points) for label, pick in picks.items()}
        curves[arm] = {label: curve for label, curve in drawn.items() if curve is not None}
    return curves, (longest, windows_per_point(max(1, longest), points))


def _caption(data: ReportData, note: str, points: tuple[int, int]) -> str:
    windows, per_point = points
    seeds = max(len(data.windows(arm)) for arm in data.arms)
    parts = [note]
    if seeds > 1:
        parts.append("Mean over seeds; band: lowest to highest seed.")
    if per_point > 1:
        parts.append(f"Thinned out: of {windows:,} logged windows each point is the mean of {per_point}.")
    else:
        parts.append("Not smoothed: a point per logged window.")
    return " ".join([*filter(None, parts), "Same axes in all panels but those that say otherwise."])


def _picks(key: str, names: Mapping[str, str]) -> dict[str, Pick]:
    """Selects curves from the entries of a record such as task_weights."""

    def pick(name: str) -> Pick:
        def value(window: Record) -> float | None:
            entry: float | None = (window[key] or {}).get(name)
            return entry

        return value

    return {label: pick(name) for label, name in names.items()}


def _cosines(tasks: Sequence[str]) -> tuple[dict[str, Pick], str]:
    """Selects curves of cosines, and the note on them."""
    note = "Between the tasks' gradients with respect to the shared representation; below 0 they are in conflict."
    pairs = list(combinations(tasks, 2))
    if len(pairs) <= MOST_PAIRS:
        return _picks("cosines", {f"{a} and {b}": pair_name(a, b) for a, b in pairs}), note

    def mean(task: str) -> Pick:
        names = [pair_name(a, b) for a, b in pairs if task in (a, b)]

        def value(window: Record) -> float | None:
            cosines = [cosine for name in names if (cosine := (window["cosines"] or {}).get(name)) is not None]
            return sum(cosines) / len(cosines) if cosines else None

        return value

    return {task: mean(task) for task in tasks}, f"{note} Of each task the mean over its pairs with the others."


def _share(
    arms: Mapping[str, Sequence[Curve]], logarithmic: bool, lowest: float | None = None
) -> tuple[dict[str, tuple[float, float]], tuple[float, float]]:
    """Limits of each arm's vertical axis. Arms share one, except outliers, which would compress the others' curves."""
    ends = {arm: max(float(np.nanmax(np.abs([c.low, c.high]))) for c in curves) for arm, curves in arms.items()}
    usual = [arm for arm in arms if logarithmic or ends[arm] <= ASTRAY * median(ends.values())]
    shared = limits_of([curve for arm in usual for curve in arms[arm]], logarithmic, lowest)
    return {
        arm: shared if arm in usual else limits_of(curves, logarithmic, lowest) for arm, curves in arms.items()
    }, shared


def limits_of(curves: Sequence[Curve], logarithmic: bool, lowest: float | None) -> tuple[float, float]:
    """Limits of a vertical axis."""
    high = max(float(np.nanmax(curve.high)) for curve in curves)
    if logarithmic:
        high = high or 1.0
        positive = [float(value) for curve in curves for value in curve.mean if value > 0]
        return max(min(positive, default=high), LOWEST_NORM * high) / 1.3, high * 1.3
    low = min(float(np.nanmin(curve.low)) for curve in curves)
    low = low if lowest is None else min(low, lowest)
    margin = 0.06 * ((high - low) or abs(high) or 1.0)
    return (low if low == lowest else low - margin), high + margin
