"""Calibration by decile, as figures."""

from dlrm_mtl.reporting.figures.chart import Chart
from dlrm_mtl.reporting.figures.panels import BASELINE, decile_panel, label_panel, look, swatch
from dlrm_mtl.reporting.figures.svg import drawing
from dlrm_mtl.reporting.normalized_loss import is_regression
from dlrm_mtl.reporting.runs.report_data import ReportData
from dlrm_mtl.reporting.tables.metrics import decile_ratio


def decile_chart(data: ReportData) -> Chart | None:
    """Of the binary tasks: one panel per arm with one line per task and seed; None if deciles were not kept."""
    ratios = {
        arm: {
            task: [[decile_ratio(decile) for decile in one["deciles"]] for one in record["deciles_by_seed"]]
            for task, record in data.comparison["arms"][arm]["tasks"].items()
            if not is_regression(record)
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
    looks = {task: look(index) for index, task in enumerate(ratios[data.control])}
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


def label_chart(data: ReportData) -> Chart | None:
    """Of the regressions: one panel per task with one line per arm and seed; None if there is none."""
    lines = {
        task: {
            arm: [one["deciles"] for one in data.comparison["arms"][arm]["tasks"][task]["deciles_by_seed"]]
            for arm in data.arms
        }
        for task, record in data.comparison["arms"][data.control]["tasks"].items()
        if is_regression(record)
    }
    drawn = {task: of_arms for task, of_arms in lines.items() if any(of_arms.values())}
    if not drawn:
        return None
    looks = {data.control: BASELINE, **{arm: look(index) for index, arm in enumerate(data.treatments)}}
    caption = (
        "Mean label against mean prediction, in tenths of the rows from the lowest predictions to the highest; on the"
        " diagonal both are equal. A line per arm and seed."
    )
    with drawing():
        panels = [
            (
                task,
                label_panel(
                    *(f"labels-{index}", f"Mean label of {task} by decile of its predictions"),
                    [(looks[arm], one) for arm, seeds in of_arms.items() for one in seeds],
                ),
            )
            for index, (task, of_arms) in enumerate(drawn.items())
        ]
        legend = [(arm, swatch(f"labels-key-{index}", style)) for index, (arm, style) in enumerate(looks.items())]
    return Chart("labels", "Predictions of regressions by decile", caption, legend, panels)
