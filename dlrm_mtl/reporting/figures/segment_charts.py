"""Figures of gains by segment."""

from dlrm_mtl.reporting.figures.chart import Chart
from dlrm_mtl.reporting.figures.gain_charts import reach_of
from dlrm_mtl.reporting.figures.panels import gain_panel
from dlrm_mtl.reporting.figures.svg import drawing
from dlrm_mtl.reporting.normalized_loss import gain_of, loss_name
from dlrm_mtl.reporting.runs.report_data import Record, ReportData

MOST_PANELS = 40
"""Maximum number of panels of a segment; beyond, only the average over tasks is drawn."""
MOST_VALUES = 40
"""Maximum number of values of a segment; beyond, those with the most rows are drawn."""


def segment_charts(data: ReportData) -> list[Chart]:
    """Gains by value: one chart per segment, one panel per arm and task."""
    arms = data.comparison["arms"]
    segments = dict.fromkeys(name for arm in data.treatments for name in arms[arm]["segments"])
    charts = (_chart(data, segment, f"segment-{index}") for index, segment in enumerate(segments))
    return [chart for chart in charts if chart]


def _chart(data: ReportData, segment: str, key: str) -> Chart | None:
    values = {arm: data.comparison["arms"][arm]["segments"].get(segment, {}) for arm in data.treatments}
    single = len(data.treatments) * len(data.tasks) <= MOST_PANELS
    rows = {
        (arm, task): _most_rows(of_arm, task)
        for arm, of_arm in values.items()
        for task in (data.tasks if single else [None])
    }
    loss = loss_name(data.comparison)
    drawn = {panel: gains for panel, gains in rows.items() if gains}
    if not drawn:
        return None
    reach, cut = reach_of([[gain for _, gain in gains] for gains in drawn.values()])
    caption = f"{loss} gain over {data.control} in %, with 95 % intervals, each by itself; right of 0 is better."
    if not single:
        caption += " The average over tasks; each task is in the table."
    if any(len(of_arm) > MOST_VALUES for of_arm in values.values()):
        caption += f" The {MOST_VALUES} values with the most rows; the others are in the table."
    if cut:
        caption += " Arrows: beyond the axis, see the table."
    caption += " Values where all labels of a task are equal have no gain and are left out."
    with drawing():
        panels = [
            (
                f"{arm}: {task or 'average'}",
                gain_panel(f"{key}-{index}", f"{loss} gain of {arm} by {segment}", gains, reach, loss, apart=False),
            )
            for index, ((arm, task), gains) in enumerate(drawn.items())
        ]
    return Chart(key, f"{loss} gain by {segment}", caption, [], panels)


def _most_rows(values: Record, task: str | None) -> list[tuple[str, Record]]:
    """Gains of the values with the most rows, in the order of the values."""
    most = sorted(values, key=lambda value: -int(values[value]["rows"]))[:MOST_VALUES]
    gains = [
        (value, (gain_of(record["tasks"][task]) if task else record["average_ne_gain_percent"]))
        for value, record in values.items()
        if value in most
    ]
    return [(value, gain) for value, gain in gains if gain is not None]
