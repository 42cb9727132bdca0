"""Reads the front from the finished comparisons of the experiment ``front``."""

from dlrm_mtl.files import write_json, write_text
from dlrm_mtl.reporting.figures.front_figure import front_figure
from dlrm_mtl.reporting.runs.report_data import read_run
from dlrm_mtl.schema import Schema
from dlrm_mtl.studies.architectures.running import Plans, out_of
from dlrm_mtl.studies.front.report import find_front, format_front
from dlrm_mtl.studies.running import describe_left_out


def finish_front(plans: Plans, schema: Schema) -> str:
    """Writes ``front.json``, ``front.svg`` and ``report.md``.

    Returns:
        the text of ``report.md``, and its path.
    """
    out = out_of(plans)
    front = find_front(schema.name, {name: read_run(plan.comparison.out) for name, plan in plans.items()})
    write_json(out / "front.json", front)
    write_text(out / "front.svg", front_figure({schema.name: front}))
    text = format_front(front, "front.svg")
    text += "".join(f"\n{line}\n" for line in describe_left_out(next(iter(plans.values()))))
    write_text(out / "report.md", text)
    return f"{text}\nreport: {out / 'report.md'}"
