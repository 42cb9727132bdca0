"""Trains day by day: ``python -m dlrm_mtl.stream --data DAY1 DAY2 ... --out RUN --arms mean multibalance``.

Each day is evaluated, then trained on. Writes ``RUN/stream.json``, ``RUN/report.html``, ``RUN/report.md``, and a run
directory ``RUN/days/NAME`` for each day. An interrupted run goes on when it is started again with the same options, and
days may be appended to ``--data``.
"""

from dlrm_mtl import cli
from dlrm_mtl.distributed.versions import torchrec_imports
from dlrm_mtl.extras import TRAINING
from dlrm_mtl.run_config import StreamConfig


def main() -> None:
    config = cli.parse(StreamConfig, "dlrm_mtl.stream")
    with torchrec_imports():
        from dlrm_mtl.distributed.processes import process_group
        from dlrm_mtl.monitoring.mirror import mirrored
        from dlrm_mtl.monitoring.monitor import monitored
        from dlrm_mtl.reporting.streams.report import write_stream_report
        from dlrm_mtl.reporting.streams.stream_file import StreamResults
        from dlrm_mtl.streaming.running import run_stream

    with mirrored(config) as mirror:
        with process_group(config.timeout_s) as ranks, monitored(config, ranks, mirror) as monitor:
            run_stream(config, ranks, monitor)
        if ranks.is_first:
            # After the process group, so that the other ranks do not wait for the figures.
            print(f"\n{write_stream_report(StreamResults(config.out))}", flush=True)


if __name__ == "__main__":
    cli.run("stream", main, TRAINING)
