"""Control and treatments side by side: ``python -m dlrm_mtl.compare --data DIR --out RUN --arms mean multibalance``.

Writes ``RUN/comparison.json``, ``RUN/report.html`` and ``RUN/report.md``. An interrupted comparison goes on from the
newest checkpoint of its first unfinished seed when it is started again with the same options.
"""

from dlrm_mtl import cli
from dlrm_mtl.config import CompareConfig
from dlrm_mtl.distributed.versions import check_versions


def main() -> None:
    config = cli.parse(CompareConfig, "dlrm_mtl.compare")
    check_versions()
    # torchrec takes seconds to import, which --help and a wrong option need not wait for; and it is imported only now,
    # since packages that do not go together fail in obscure ways.
    from dlrm_mtl.distributed.processes import process_group
    from dlrm_mtl.reporting.run_results import finish_comparison, run_comparison

    with process_group(config.timeout_s) as ranks:
        run_comparison(config, ranks)
    if ranks.is_first:
        # Drawn when the other ranks need no longer wait for it.
        print(f"\n{finish_comparison(config)}", flush=True)


if __name__ == "__main__":
    cli.run("compare", main)
