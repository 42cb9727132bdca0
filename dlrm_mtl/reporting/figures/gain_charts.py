"""Figures of gains in NE and NMSE, and the Pareto view of two tasks."""

from collections.abc import Mapping, Sequence
from statistics import median

from dlrm_mtl.reporting.figures.chart import ASTRAY, Chart, panel_heading
from dlrm_mtl.reporting.figures.panels import BASELINE, Look, gain_panel, look, pareto_panel, swatch
from dlrm_mtl.reporting.figures.svg import drawing
from dlrm_mtl.reporting.normalized_loss import gain_of, key_of, loss_name, titles_of_tasks
from dlrm_mtl.reporting.runs.report_data import Record, ReportData
from dlrm_mtl.statistics.families import MARGIN

SMALL = 8
"""An arm whose gains all lie within 1 / SMALL of the axis gets an axis of its own."""
ROOM = 1.08
"""Length of an axis over the extent of its data."""


def gain_chart(data: ReportData) -> Chart:
    """Gains in NE and NMSE, one panel per arm."""
    loss, titles = loss_name(data.comparison), titles_of_tasks(data.comparison)
    gains = {
        arm: [
            ("average", data.comparison["arms"][arm]["average_ne_gain_percent"]),
            *((titles[task], gain_of(data.comparison["arms"][arm]["tasks"][task])) for task in data.tasks),
        ]
        for arm in data.treatments
    }
    reach, cut = reach_of([[gain for _, gain in rows] for rows in gains.values()])
    caption = (
        f"{loss} gain over {data.control} in % (100 times the difference of {loss}); right of 0 is better. 95 %"
        f" intervals, {data.comparison['intervals']}. Triangles: a gain or a loss, certain among all arms and tasks"
        f" together; squares: equivalent, within {MARGIN:g}, which is shaded; open circles: inconclusive, or no"
        " verdict."
    )
    if cut:
        caption += " Arrows: beyond the axis, see the table."
    own = {arm: end for arm, rows in gains.items() if 0 < (end := _end([gain for _, gain in rows])) < reach / SMALL}
    if own:
        caption += " Same axis in all panels but those of small gains, which say so."
    axes = {arm: ROOM * own[arm] if arm in own else reach for arm in gains}
    with drawing():
        panels = [
            (
                panel_heading(arm, arm in own),
                gain_panel(f"gain-{index}", f"{loss} gain of {arm} per task", values, axes[arm], loss),
            )
            for index, (arm, values) in enumerate(gains.items())
        ]
    return Chart("gain", f"{loss} gain per task", caption, [], panels)


def pareto_chart(data: ReportData, tasks: tuple[str, str] | None) -> Chart | None:
    """The gain of one task against that of another, by default the two whose gains differ most between arms; None with
    a single task.

    Raises:
        ValueError: an unknown task, or the same task twice.
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
    gains = {arm: [gain_of(arms[arm]["tasks"][task]) for task in data.tasks] for arm in data.arms}
    if tasks is None:
        widest = sorted(data.tasks, key=lambda task: -_spread(gains, data.tasks.index(task)))[:2]
        tasks = (widest[0], widest[1])
    columns = [data.tasks.index(task) for task in tasks]
    shown = {arm: [gains[arm][column] for column in columns] for arm in data.treatments}
    missing = [arm for arm, pair in shown.items() if None in pair]
    looks = {arm: look(index) for index, arm in enumerate(data.treatments)}
    control = Look(BASELINE.color, "-", "o")
    pairs = {arm: pair for arm, pair in shown.items() if arm not in missing}
    reaches = [reach_of([[pair[axis]] for pair in pairs.values()])[0] for axis in (0, 1)]
    beyond = [
        arm
        for arm, pair in pairs.items()
        if any(abs(gain["mean"]) > reach for gain, reach in zip(pair, reaches, strict=True))
    ]
    points = [(looks[arm], *pair) for arm, pair in pairs.items() if arm not in beyond]
    caption = (
        f"Gain of {tasks[0]} against gain of {tasks[1]}, one point per arm with both 95 % intervals; {data.control} is"
        " at the origin. Shaded: both tasks gain. An arm is dominated by those above and to the right of it."
    )
    if missing:
        caption += f" Left out, as a loss exploded: {'; '.join(missing)}."
    if beyond:
        caption += f" Left out, as they lie far beyond the others: {'; '.join(beyond)}."
    with drawing():
        legend = [
            (name, swatch(f"pareto-key-{index}", style, line=False))
            for index, (name, style) in enumerate({data.control: control, **looks}.items())
            if name not in (*missing, *beyond)
        ]
        figure = pareto_panel(
            *("pareto", f"Gain of {tasks[0]} against gain of {tasks[1]}", tasks, points, control, reaches),
            losses=[key_of("ne", arms[data.control]["tasks"][task]).upper() for task in tasks],
        )
    return Chart("pareto", f"Pareto view: {tasks[0]} against {tasks[1]}", caption, legend, [("", figure)])


def reach_of(gains: Sequence[Sequence[Record | None]]) -> tuple[float, bool]:
    """Extent of the axis of gains to both sides, and whether any arm lies beyond it: a single outlier must not compress
    all others."""
    ends = [end for end in map(_end, gains) if end > 0] or [1.0]
    reach = ROOM * min(max(ends), ASTRAY * median(ends))
    return reach, max(ends) > reach


def _end(gains: Sequence[Record | None]) -> float:
    """The larger distance of an interval's ends from 0."""
    ends = [end for gain in gains if gain for end in (gain["mean"], gain["low"], gain["high"]) if end is not None]
    return max(map(abs, ends), default=0.0)


def _spread(gains: Mapping[str, Sequence[Record | None]], task: int) -> float:
    means = [gain["mean"] for arm in gains.values() if (gain := arm[task]) is not None]
    return max(means) - min(means) if means else 0.0
