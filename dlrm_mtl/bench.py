"""Measures a claim about speed on this machine: ``python -m dlrm_mtl.bench CASE --data DIR --json FILE``.

Contenders take turns in one process group and are compared window by window.
"""

import tyro

from dlrm_mtl import cli
from dlrm_mtl.benchmarks.cases import CheckpointCase, ReaderCase
from dlrm_mtl.distributed.versions import check_versions
from dlrm_mtl.files import write_json


def main() -> None:
    case = tyro.extras.subcommand_cli_from_dict(
        {"reader": ReaderCase, "checkpoint": CheckpointCase},
        prog="python -m dlrm_mtl.bench",
        description=__doc__,
        console_outputs=cli.is_first_rank(),
    )
    check_versions()
    # torchrec takes seconds to import, which --help and a wrong option need not wait for; and it is imported only now,
    # since packages that do not go together fail in obscure ways.
    from dlrm_mtl.benchmarks.checkpoint import format_checkpoint, measure_checkpoint
    from dlrm_mtl.benchmarks.reader import format_reader, measure_reader

    if isinstance(case, ReaderCase):
        results = measure_reader(case)
        table = format_reader(results)
    else:
        results = measure_checkpoint(case)
        table = format_checkpoint(results)
    if not cli.is_first_rank():
        return
    print(f"\n{table}", flush=True)
    if case.json is not None:
        write_json(case.json, {"case": cli.as_dict(case), **results})
        print(f"results: {case.json}", flush=True)


if __name__ == "__main__":
    cli.run("bench", main)
