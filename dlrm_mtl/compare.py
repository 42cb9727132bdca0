"""Control and treatments side by side: ``python -m dlrm_mtl.compare --data DIR --out RUN --arms mean multibalance``.

Writes ``RUN/comparison.json``, ``RUN/report.html`` and ``RUN/report.md``. An interrupted comparison continues from the
newest checkpoint of its first unfinished seed when it is started again with the same options.
"""

from dlrm_mtl import cli
from dlrm_mtl.distributed.versions import torchrec_imports
from dlrm_mtl.extras import TRAINING
from dlrm_mtl.run_config import CompareConfig


def main() -> None:
    config = cli.parse(CompareConfig, "dlrm_mtl.compare")
    with torchrec_imports():
        from dlrm_mtl.distributed.processes import process_group
        from dlrm_mtl.monitoring.mirror import mirrored
        from dlrm_mtl.monitoring.monitor import monitored
        from dlrm_mtl.studies.comparison import run_comparison

    with mirrored(config) as mirror:
        with process_group(config.timeout_s) as ranks, monitored(config, ranks, mirror) as monitor:
            run_comparison(config, ranks, monitor)
        if ranks.is_first:
            # After the process group, so that the other ranks neither wait for the figures nor import matplotlib.
            from dlrm_mtl.reporting.html import write_run_report

            print(f"\n{write_run_report(config.out)}", flush=True)


if __name__ == "__main__":
    cli.run("compare", main, TRAINING)
