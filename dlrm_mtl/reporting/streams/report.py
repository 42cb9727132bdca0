"""The report of a stream: report.md and report.html."""

from dlrm_mtl.files import write_text
from dlrm_mtl.reporting.escaping import code, text
from dlrm_mtl.reporting.figures.day_charts import day_charts
from dlrm_mtl.reporting.normalized_loss import loss_name
from dlrm_mtl.reporting.page import render_page
from dlrm_mtl.reporting.streams.stream_file import Record, StreamResults
from dlrm_mtl.reporting.tables.streams import days_table, gains_over_days_table, task_table
from dlrm_mtl.reporting.tables.table import Table
from dlrm_mtl.reporting.words.stream import describe_stream
from dlrm_mtl.statistics.families import MARGIN


def write_stream_report(results: StreamResults) -> str:
    """Writes stream.json, report.md and report.html of the days that are over.

    Returns:
        the tables of report.md and the paths of the files, for the terminal.

    Raises:
        ValueError: see :meth:`StreamResults.write`.
    """
    stream, run = results.write(), results.run
    name = stream["days"][-1]["data_set"]
    summary = describe_stream(stream)
    tables = {
        f"Mean {loss_name(stream)} gain (%) over the days against {code(stream['control'])}": gains_over_days_table(
            stream
        ),
        **{text(task): task_table(stream, task) for task in stream["tasks"]},
    }
    shown = "\n\n".join(f"{caption}\n\n{table.markdown()}" for caption, table in tables.items() if table)
    sentences = "\n".join(f"- {text(sentence)}" for sentence in summary)
    write_text(run / "report.md", f"# {text(name)}\n\n{sentences}\n\n{shown}\n")
    write_text(run / "report.html", _page(name, stream, summary))
    return f"{shown}\nreport: {run / 'report.md'}\n        {run / 'report.html'}"


def _page(name: str, stream: Record, summary: list[str]) -> str:
    tables: dict[str, Table | None] = {
        f"Mean {loss_name(stream)} gain (%) over the days against {stream['control']}": gains_over_days_table(stream),
        **{f"{task}, over its days": task_table(stream, task) for task in stream["tasks"]},
    }
    return render_page(
        "stream.html.j2",
        name=name,
        stream=stream,
        summary=summary,
        loss=loss_name(stream),
        tables=tables,
        charts=day_charts(stream),
        days=days_table(stream),
        margin=MARGIN,
    )
