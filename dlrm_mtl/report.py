"""The report of a comparison, or of runs joined: ``python -m dlrm_mtl.report RUN... [--out DIR] [--control ARM]``.

Writes ``report.html``, ``report.md`` and the ``comparison.json`` that they show. A single run is summarised again in
place: from its ``seed-S.json`` and ``seed-S.npz`` or, without them, from its ``comparison.json``. Of a run of
``dlrm_mtl.stream`` it writes ``stream.json``, ``report.html`` and ``report.md`` in place.
"""

from dlrm_mtl import cli
from dlrm_mtl.extras import REPORT
from dlrm_mtl.files import write_json


def main() -> None:
    from dlrm_mtl.reporting.options import ReportOptions

    options = cli.parse(ReportOptions, "dlrm_mtl.report")
    # matplotlib takes a second to import, too long for --help.
    from dlrm_mtl.reporting.html import write_report
    from dlrm_mtl.reporting.runs.join import join_runs
    from dlrm_mtl.reporting.runs.report_data import ReportData
    from dlrm_mtl.reporting.runs.train_runs import read_job
    from dlrm_mtl.reporting.streams.report import write_stream_report
    from dlrm_mtl.reporting.streams.stream_file import StreamResults, is_stream

    streams = [run for run in options.runs if is_stream(run)]
    if streams and options != ReportOptions((streams[0],)):
        raise ValueError(f"{streams[0]}: is a run of dlrm_mtl.stream, expected no other run and no options beside it")
    if streams:
        print(write_stream_report(StreamResults(streams[0])), flush=True)
        return
    runs = [read_job(directory) for directory in options.runs]
    comparison = join_runs(runs, options.control, options.task_weights)
    out = options.runs[0] if options.out is None else options.out
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "comparison.json", comparison)
    print(write_report(ReportData.of(runs, comparison), out, options.pareto), flush=True)


if __name__ == "__main__":
    cli.run("report", main, REPORT)
