"""The paper's tables and figure: ``python -m dlrm_mtl.experiments table3 --data DIR --out RUN --seeds 5``.

Each experiment is a comparison in ``RUN/NAME``; ``RUN/report.md`` joins them. An interrupted one continues when it is
started again with the same options. ``architectures`` makes one comparison for each sharing architecture, ``front``
reads such comparisons of all methods as one figure, and ``trees`` adds LightGBM to a comparison. ``theory`` measures
the gradients of section 4.2 of the paper, and ``scale`` computes what balancing costs on many GPUs; neither is a
comparison.
"""

import sys
from collections.abc import Sequence

from dlrm_mtl import cli
from dlrm_mtl.distributed.versions import torchrec_imports
from dlrm_mtl.extras import LIGHTGBM, TRAINING, check_installed
from dlrm_mtl.files import write_json
from dlrm_mtl.run_config import ExperimentConfig
from dlrm_mtl.studies.architectures.case import ArchitecturesConfig
from dlrm_mtl.studies.catalog import ARCHITECTURES, FRONT, SCALE, STUDIES, THEORY, TREES
from dlrm_mtl.studies.front.case import FrontConfig
from dlrm_mtl.studies.scale_case import ScaleCase
from dlrm_mtl.studies.theory_case import TheoryCase
from dlrm_mtl.studies.trees.case import TreesCase


def main() -> None:
    names, arguments = choose_studies(sys.argv[1:])
    if names == [THEORY]:
        _measure_theory(arguments)
    elif names == [SCALE]:
        _measure_scale(arguments)
    elif names == [ARCHITECTURES]:
        _compare_architectures(cli.parse(ArchitecturesConfig, f"dlrm_mtl.experiments {ARCHITECTURES}", arguments))
    elif names == [FRONT]:
        config = cli.parse(FrontConfig, f"dlrm_mtl.experiments {FRONT}", arguments)
        _compare_architectures(config.comparisons(), as_front=True)
    elif names == [TREES]:
        _train_trees(cli.parse(TreesCase, f"dlrm_mtl.experiments {TREES}", arguments))
    else:
        _run_comparisons(names, arguments)


def _run_comparisons(names: Sequence[str], arguments: Sequence[str]) -> None:
    config = cli.parse(ExperimentConfig, f"dlrm_mtl.experiments {sys.argv[1]}", arguments)
    with torchrec_imports():
        from dlrm_mtl.distributed.processes import process_group
        from dlrm_mtl.monitoring.mirror import mirrored
        from dlrm_mtl.monitoring.monitor import monitored
        from dlrm_mtl.schema import read_schema
        from dlrm_mtl.studies.running import describe_work, finish_studies, plan_studies, run_studies

    schema = read_schema(config.data)
    plans = plan_studies(config, names, schema)
    with mirrored(config) as mirror:
        with process_group(config.timeout_s) as ranks, monitored(config, ranks, mirror) as monitor:
            if ranks.is_first:
                print(describe_work(plans, schema), flush=True)
            run_studies(plans, ranks, monitor)
        if ranks.is_first:
            # After the process group, so that the other ranks do not wait for the figures.
            print(f"\n{finish_studies(plans, schema)}", flush=True)


def _compare_architectures(config: ArchitecturesConfig, *, as_front: bool = False) -> None:
    with torchrec_imports():
        from dlrm_mtl.distributed.processes import process_group
        from dlrm_mtl.monitoring.mirror import mirrored
        from dlrm_mtl.monitoring.monitor import monitored
        from dlrm_mtl.schema import read_schema
        from dlrm_mtl.studies.architectures.running import finish_architectures, plan_architectures, run_architectures
        from dlrm_mtl.studies.front.running import finish_front
        from dlrm_mtl.studies.running import describe_work

    schema = read_schema(config.data)
    plans = plan_architectures(config, schema)
    with mirrored(config) as mirror:
        with process_group(config.timeout_s) as ranks, monitored(config, ranks, mirror) as monitor:
            if ranks.is_first:
                print(describe_work(plans, schema), flush=True)
            run_architectures(plans, schema, ranks, monitor)
        if ranks.is_first:
            finish = finish_front if as_front else finish_architectures
            print(f"\n{finish(plans, schema)}", flush=True)


def _train_trees(case: TreesCase) -> None:
    check_installed(LIGHTGBM)
    with torchrec_imports():
        from dlrm_mtl.studies.trees.running import run_trees

    print(f"\n{run_trees(case)}", flush=True)


def _measure_theory(arguments: Sequence[str]) -> None:
    case = cli.parse(TheoryCase, f"dlrm_mtl.experiments {THEORY}", arguments)
    with torchrec_imports():
        from dlrm_mtl.studies.theory import measure_theory
        from dlrm_mtl.studies.theory_table import format_theory

    study = measure_theory(case)
    print(f"\n{format_theory({'studies': [study]})}", flush=True)
    if case.json is not None:
        write_json(case.json, study)
        print(f"results: {case.json}", flush=True)


def _measure_scale(arguments: Sequence[str]) -> None:
    case = cli.parse(ScaleCase, f"dlrm_mtl.experiments {SCALE}", arguments)
    from dlrm_mtl.studies.scale import measure_scale
    from dlrm_mtl.studies.scale_table import format_scale

    study = measure_scale(case)
    print(format_scale(study), flush=True)
    if case.json is not None:
        write_json(case.json, study)
        print(f"results: {case.json}", flush=True)


def choose_studies(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The experiments that a command line names first, and its other arguments.

    Raises:
        ValueError: it names no experiment.
        SystemExit: after printing their list, if help is asked for.
    """
    first = arguments[0] if arguments else ""
    if first in ("-h", "--help"):
        width = max(map(len, STUDIES))
        print(f"usage: {cli.command_name('dlrm_mtl.experiments')} NAME --data DIR --out RUN [OPTIONS]\n")
        for name, study in STUDIES.items():
            print(f"  {name:{width}}  {study.title}. {study.question}")
        print(f"  {'all':{width}}  All of these.")
        print(f"  {ARCHITECTURES:{width}}  Do shared experts replace balancing, and does balancing add to them?")
        print(f"  {FRONT:{width}}  What do methods and shares of the mean gain on average, and at which task's cost?")
        print(f"  {TREES:{width}}  Is the ranker better than LightGBM on each task by itself?")
        print(f"  {THEORY:{width}}  How far do gradients of the representation stand in for those of parameters?")
        print(f"  {SCALE:{width}}  What does balancing add to a step on 8 to 1024 GPUs, on paper?")
        print("\nNAME --help lists the options.")
        raise SystemExit(0)
    if first not in (names := (*STUDIES, "all", ARCHITECTURES, FRONT, TREES, THEORY, SCALE)):
        expected = ", ".join(names)
        raise ValueError(f"experiment {first!r}, expected one of {expected}")
    return list(STUDIES) if first == "all" else [first], list(arguments[1:])


if __name__ == "__main__":
    cli.run("experiments", main, TRAINING)
