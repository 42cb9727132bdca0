"""Exports a trained model for serving: ``python -m dlrm_mtl.export --checkpoint RUN --out DIR``."""

import os

from dlrm_mtl import cli
from dlrm_mtl.config import require
from dlrm_mtl.distributed.versions import torchrec_imports
from dlrm_mtl.export_options import ExportOptions
from dlrm_mtl.extras import TRAINING


def main() -> None:
    options = cli.parse(ExportOptions, "dlrm_mtl.export")
    processes = os.environ.get("WORLD_SIZE", "1")
    require("WORLD_SIZE", processes, processes == "1", "1: one process exports")
    with torchrec_imports():
        from dlrm_mtl.distributed.quiet import silence_known_warnings
        from dlrm_mtl.serving.text import format_export
        from dlrm_mtl.serving.writing import write_export

    silence_known_warnings()
    manifest = write_export(options)
    print(f"{format_export(manifest)}\nexport: {options.out}", flush=True)


if __name__ == "__main__":
    cli.run("export", main, TRAINING)
