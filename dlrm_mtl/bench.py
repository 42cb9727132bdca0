"""Measures speed on this machine: ``python -m dlrm_mtl.bench CASE --json FILE``.

Contenders take turns in one process group and are compared window by window.
"""

from collections.abc import Callable
from typing import Any

from dlrm_mtl import cli
from dlrm_mtl.benchmarks.cases import (
    ArchitecturesCase,
    CheckpointCase,
    LoopCase,
    MethodsCase,
    OverheadCase,
    ProfileCase,
    ReaderCase,
    ServingCase,
)
from dlrm_mtl.benchmarks.synthetic_cases import ExpertsCase, GrowthCase, LayerCase, PeersCase, WatchCase
from dlrm_mtl.distributed.versions import torchrec_imports
from dlrm_mtl.extras import TRAINING
from dlrm_mtl.files import write_json, write_text

CASES: dict[str, Callable[..., Any]] = {
    "reader": ReaderCase,
    "checkpoint": CheckpointCase,
    "methods": MethodsCase,
    "architectures": ArchitecturesCase,
    "loop": LoopCase,
    "overhead": OverheadCase,
    "profile": ProfileCase,
    "serving": ServingCase,
    "layer": LayerCase,
    "peers": PeersCase,
    "experts": ExpertsCase,
    "growth": GrowthCase,
    "watch": WatchCase,
}


def main() -> None:
    import tyro

    case = tyro.extras.subcommand_cli_from_dict(
        CASES, prog=cli.command_name("dlrm_mtl.bench"), description=__doc__, console_outputs=cli.is_first_rank()
    )
    with torchrec_imports():
        from dlrm_mtl.benchmarks.running import BENCHMARKS

    benchmark = BENCHMARKS[type(case)]
    results = benchmark.measure(case)
    if not cli.is_first_rank():
        return
    table = benchmark.format(results)
    print(f"\n{table}", flush=True)
    if case.json is not None:
        write_json(case.json, {"case": cli.as_dict(case), **results})
        write_text(case.json.with_suffix(".md"), f"{table}\n")
        if benchmark.page is not None:
            write_text(case.json.with_suffix(".html"), benchmark.page(results))
        print(f"results: {case.json}", flush=True)


if __name__ == "__main__":
    cli.run("bench", main, TRAINING)
