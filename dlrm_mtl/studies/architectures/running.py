"""Trains and joins the comparisons of the experiment ``architectures``, seed by seed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from dlrm_mtl.architecture_options import with_architecture
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.file_names import file_names
from dlrm_mtl.files import write_json, write_text
from dlrm_mtl.monitoring.monitor import Monitor
from dlrm_mtl.reporting.html import write_run_report
from dlrm_mtl.reporting.run_results import seed_file, write_comparison
from dlrm_mtl.reporting.runs.report_data import read_run
from dlrm_mtl.schema import Schema
from dlrm_mtl.studies.architectures.case import ArchitecturesConfig
from dlrm_mtl.studies.architectures.parameters import Parameters, count_parameters, match_parameters
from dlrm_mtl.studies.architectures.report import format_architectures, join_architectures
from dlrm_mtl.studies.catalog import ARCHITECTURES
from dlrm_mtl.studies.comparison import OpenComparison
from dlrm_mtl.studies.running import StudyPlan, describe_left_out, plan_study
from dlrm_mtl.task_weights import share_weights


@dataclass(frozen=True)
class ArchitecturePlan(StudyPlan):
    """The comparison under one architecture."""

    parameters: Parameters


Plans = Mapping[str, ArchitecturePlan]
"""By the architecture as the user named it; the first one's control is also that of all."""


def plan_architectures(config: ArchitecturesConfig, schema: Schema) -> Plans:
    """The comparison under each architecture, in ``OUT/architectures``.

    Raises:
        ValueError: weights of other tasks than the data set's; a model that does not fit the data set.
    """
    share_weights(config.task_weights, schema.task_names)
    folders = file_names(config.architectures)
    budget = count_parameters(schema, with_architecture(config.model, config.architectures[0])).dense
    plans: dict[str, ArchitecturePlan] = {}
    for name in config.architectures:
        model = with_architecture(config.model, name)
        if config.match_parameters and plans:
            model = match_parameters(schema, model, budget)
        plan = plan_study(replace(config, model=model), f"{ARCHITECTURES}/{folders[name]}", config.arms, schema)
        plans[name] = ArchitecturePlan(plan.comparison, plan.left_out, count_parameters(schema, model))
    return plans


def run_architectures(plans: Plans, schema: Schema, ranks: Ranks, monitor: Monitor) -> None:
    """Trains what is not finished. After each seed the results of all seeds that are finished under every architecture
    are written. Collective.

    Raises:
        ValueError: see :meth:`OpenComparison.of`.
        Terminated: when a rank was told to end by SIGTERM.
    """
    comparisons = {name: OpenComparison.of(plan.comparison, ranks, monitor) for name, plan in plans.items()}
    for seed in next(iter(plans.values())).comparison.own_seeds:
        for number, (name, comparison) in enumerate(comparisons.items(), 1):
            monitor.place(comparison={"name": name, "number": number, "of": len(plans)})
            if ranks.is_first:
                print(f"\n== {name}, seed {seed}", flush=True)
            comparison.train([seed])
        if ranks.is_first:
            _write_results(plans, schema)


def finish_architectures(plans: Plans, schema: Schema) -> str:
    """Writes each comparison's report with its figures.

    Returns:
        the text of ``report.md``, and its path.
    """
    for plan in plans.values():
        write_run_report(plan.comparison.out)
    text = _write_results(plans, schema)
    return f"{text}\nreport: {out_of(plans) / 'report.md'}"


def _write_results(plans: Plans, schema: Schema) -> str:
    """Writes each ``comparison.json``, ``architectures.json`` and ``report.md``.

    Returns:
        the text of ``report.md``.
    """
    seeds = _finished_seeds(plans)
    for plan in plans.values():
        comparison = plan.comparison
        write_comparison(replace(comparison, seeds=seeds, planned_seeds=comparison.seeds), schema)
    out = out_of(plans)
    runs = {name: read_run(plan.comparison.out) for name, plan in plans.items()}
    record = {
        "data_set": schema.name,
        "architectures": {
            name: {
                "run": str(plan.comparison.out.relative_to(out)),
                "model": asdict(plan.comparison.model),
                "parameters": asdict(plan.parameters),
            }
            for name, plan in plans.items()
        },
        "comparison": join_architectures(runs),
    }
    write_json(out / "architectures.json", record)
    text = format_architectures(record, {name: run.comparison for name, run in runs.items()})
    text += "".join(f"\n{line}\n" for line in describe_left_out(next(iter(plans.values()))))
    write_text(out / "report.md", text)
    return text


def _finished_seeds(plans: Plans) -> int:
    """How many of the first seeds are finished under every architecture."""
    seeds = next(iter(plans.values())).comparison.own_seeds
    done = [all(seed_file(plan.comparison.out, seed).is_file() for plan in plans.values()) for seed in seeds]
    return done.index(False) if False in done else len(done)


def out_of(plans: Plans) -> Path:
    """The run directory of all comparisons."""
    return next(iter(plans.values())).comparison.out.parents[1]
