"""Calibration by decile, as a figure."""

from dlrm_mtl.reporting.figures.chart import Chart
from dlrm_mtl.reporting.figures.panels import decile_panel, look, swatch
from dlrm_mtl.reporting.figures.svg import drawing
from dlrm_mtl.reporting.runs.report_data import ReportData
from dlrm_mtl.reporting.tables.metrics import decile_ratio


def decile_chart(data: ReportData) -> Chart | None:
    """One panel per arm with one line per task and seed; None if deciles were not kept."""
    ratios = {
        arm: {
            task: [[decile_ratio(decile) for decile in one["deciles"]] for one in record["deciles_by_seed"]]
            for task, record in data.comparison["arms"][arm]["tasks"].items()
        }
        for arm in data.arms
    }
    every = [
        ratio for of_arm in ratios.values() for seeds in of_arm.values() for one in seeds for ratio in one if ratio
    ]
    if not every:
        return None
    # Symmetric: 0.5 and 2 are equally far from 1.
    reach = min(max(*every, *(1 / ratio for ratio in every), 1.25), 8.0)
    looks = {task: look(index) for index, task in enumerate(data.tasks)}
    caption = (
        "Mean prediction / rate of positives, in tenths of the rows from the lowest predictions to the highest; 1 is"
        " right. A line per task and seed; deciles without a positive are left out. Same axes in all panels."
    )
    with drawing():
        panels = [
            (
                f"{arm} (control)" if arm == data.control else arm,
                decile_panel(
                    *(f"deciles-{index}", f"Calibration of {arm} by decile"),
                    [(looks[task], one) for task, seeds in of_arm.items() for one in seeds],
                    reach,
                ),
            )
            for index, (arm, of_arm) in enumerate(ratios.items())
        ]
        legend = [(task, swatch(f"deciles-key-{index}", style)) for index, (task, style) in enumerate(looks.items())]
    return Chart("deciles", "Calibration by decile", caption, legend, panels)
