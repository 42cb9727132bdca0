"""The report of a comparison as an HTML page, and its Markdown."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from dlrm_mtl.files import write_text
from dlrm_mtl.reporting import captions
from dlrm_mtl.reporting.escaping import text
from dlrm_mtl.reporting.figures.curve_charts import curve_charts
from dlrm_mtl.reporting.figures.decile_charts import decile_chart, label_chart
from dlrm_mtl.reporting.figures.gain_charts import gain_chart, pareto_chart
from dlrm_mtl.reporting.figures.segment_charts import segment_charts
from dlrm_mtl.reporting.markdown import format_comparison, format_details
from dlrm_mtl.reporting.normalized_loss import gain_of, loss_name, titles_of_tasks
from dlrm_mtl.reporting.page import render_page
from dlrm_mtl.reporting.runs.report_data import ReportData, Run, read_run
from dlrm_mtl.reporting.tables.gains import metric_gains_table, segment_tables, verdicts_table
from dlrm_mtl.reporting.tables.metrics import (
    calibration_table,
    deciles_table,
    evaluation_table,
    label_deciles_table,
    mean_error_table,
    metrics_table,
    products_table,
)
from dlrm_mtl.reporting.words.arm import describe_arm
from dlrm_mtl.reporting.words.comparison import describe_comparison
from dlrm_mtl.run_directory import flat
from dlrm_mtl.statistics.families import MARGIN

TEMPLATE = "report.html.j2"
MARKS = {"gain": "▲", "loss": "▼", "equivalent": "≈"}


def write_run_report(out: Path) -> str:
    """:func:`write_report` of one comparison, into its run directory ``out``."""
    run = read_run(out)
    return write_report(ReportData.of([run], run.comparison), out)


def write_report(data: ReportData, directory: Path, pareto: tuple[str, str] | None = None) -> str:
    """Writes ``report.html`` and ``report.md``.

    Args:
        pareto: the two tasks of the Pareto view.

    Returns:
        the tables of ``report.md`` and the paths of the files, for the terminal.

    Raises:
        ValueError: ``pareto`` names no tasks of the comparison.
    """
    page = render_html(data, pareto)
    tables = format_comparison(data.comparison)
    details = format_details(data.comparison)
    write_text(directory / "report.md", "\n".join(filter(None, [f"# {text(data.name)}\n", tables, details])))
    write_text(directory / "report.html", page)
    return f"{tables}\nreport: {directory / 'report.md'}\n        {directory / 'report.html'}"


def render_html(data: ReportData, pareto: tuple[str, str] | None = None) -> str:
    """The page.

    Raises:
        ValueError: ``pareto`` names no tasks of the comparison.
    """
    curves = curve_charts(data)
    return render_page(
        TEMPLATE,
        data=data,
        comparison=data.comparison,
        seeds={arm: values["seeds"] for arm, values in data.comparison["arms"].items()},
        summary=describe_comparison(data.comparison),
        arms=[describe_arm(data.comparison, arm) for arm in data.treatments],
        gains=gain_chart(data),
        pareto=pareto_chart(data, pareto),
        curves=[chart for chart in curves if chart.name != "speed"],
        speed=[chart for chart in curves if chart.name == "speed"],
        without_curves=[arm for arm in data.arms if not data.windows(arm)],
        options=_common_options(data.runs),
        margin=MARGIN,
        marks=MARKS,
        captions=captions,
        verdicts=verdicts_table(data.comparison),
        metric_gains=metric_gains_table(data.comparison),
        segments=segment_tables(data.comparison),
        segment_charts=segment_charts(data),
        evaluation=evaluation_table(data.comparison),
        metrics=metrics_table(data.comparison),
        products=products_table(data.comparison),
        calibration=calibration_table(data.comparison),
        deciles=deciles_table(data.comparison),
        decile_chart=decile_chart(data),
        mean_errors=mean_error_table(data.comparison),
        label_deciles=label_deciles_table(data.comparison),
        label_chart=label_chart(data),
        loss=loss_name(data.comparison),
        titles=titles_of_tasks(data.comparison),
        gain_of=gain_of,
    )


def _common_options(runs: Sequence[Run]) -> Mapping[str, str]:
    """Options of all runs; an option that differs has each of its values once."""
    configs = [flat(run.config) for run in runs]
    names = dict.fromkeys(name for config in configs for name in config)
    return {
        name: " | ".join(dict.fromkeys(json.dumps(config[name]) for config in configs if name in config))
        for name in names
    }
