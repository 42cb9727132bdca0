"""Runs experiments, one comparison each, and joins their results in one report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dlrm_mtl.arms import check_arm
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.files import read_json, write_text
from dlrm_mtl.monitoring.monitor import Monitor
from dlrm_mtl.recipe import parse_recipe
from dlrm_mtl.reporting import escaping
from dlrm_mtl.reporting.html import write_run_report
from dlrm_mtl.reporting.markdown import format_comparison
from dlrm_mtl.reporting.run_results import seed_file
from dlrm_mtl.reporting.runs.report_data import read_run
from dlrm_mtl.run_config import CompareConfig, ExperimentConfig
from dlrm_mtl.schema import Schema
from dlrm_mtl.studies.catalog import STUDIES, study_arms
from dlrm_mtl.studies.comparison import run_comparison
from dlrm_mtl.studies.search import read_search
from dlrm_mtl.studies.search_text import describe_search
from dlrm_mtl.task_weights import share_weights
from dlrm_mtl.training_length import TrainingLength


@dataclass(frozen=True)
class StudyPlan:
    """The comparison of an experiment."""

    comparison: CompareConfig
    left_out: Mapping[str, str]
    """Arms of the experiment that cannot be trained on the data set, and why."""


Plans = Mapping[str, StudyPlan]
"""By the experiment's name."""


def plan_studies(config: ExperimentConfig, names: Sequence[str], schema: Schema) -> Plans:
    """The comparison of each experiment, without the arms that the data set's tasks rule out.

    Raises:
        ValueError: weights of other tasks than the data set's.
    """
    share_weights(config.task_weights, schema.task_names)
    return {name: plan_study(config, name, study_arms(name, config, len(schema.tasks)), schema) for name in names}


def plan_study(config: ExperimentConfig, name: str, arms: Sequence[str], schema: Schema) -> StudyPlan:
    """The comparison of these arms in a folder of the run directory."""
    left_out = {arm: reason for arm in arms if (reason := _obstacle(arm, schema.task_names))}
    return StudyPlan(config.comparison(config.out / name, tuple(arm for arm in arms if arm not in left_out)), left_out)


def describe_work(plans: Plans, schema: Schema) -> str:
    """The extent of the experiments, in lines of text."""
    lines, total = [], 0
    for name, study in plans.items():
        plan = study.comparison
        steps = TrainingLength.of(plan, schema, ranks=1).steps
        left = [seed for seed in range(plan.seeds) if not seed_file(plan.out, seed).is_file()]
        rows = len(plan.arms) * len(left) * steps * plan.batch_size
        total += rows
        done = f", {plan.seeds - len(left)} of them finished before" if len(left) < plan.seeds else ""
        lines.append(
            f"{name}: {len(plan.arms)} arms x {plan.seeds} seeds{done} x {steps:,} steps of {plan.batch_size:,} rows:"
            f" {rows:,} rows to train on, {len(plan.arms) * len(left) * schema.rows('eval'):,} to evaluate on"
        )
        lines += [f"{name}: {line}" for line in describe_left_out(study)]
    return "\n".join([*lines, f"together {total:,} training rows"])


def run_studies(plans: Plans, ranks: Ranks, monitor: Monitor) -> None:
    """Runs the experiments that are not finished, one after the other. Collective."""
    for number, (name, plan) in enumerate(plans.items(), 1):
        monitor.place(comparison={"name": name, "number": number, "of": len(plans)})
        if ranks.is_first:
            print(f"\n== {name}: {STUDIES[name].question}", flush=True)
        run_comparison(plan.comparison, ranks, monitor)


def finish_studies(plans: Plans, schema: Schema) -> str:
    """Writes the report of each experiment, and ``report.md`` of all.

    Returns:
        the text of ``report.md``, and its path.
    """
    parts = []
    for name, study in plans.items():
        plan = study.comparison
        write_run_report(plan.out)
        comparison = read_json(plan.out / "comparison.json")
        text = f"## {STUDIES[name].title}\n\n{STUDIES[name].question}\n\n{format_comparison(comparison)}"
        text += "".join(f"\n{line}\n" for line in describe_left_out(study))
        if name == "search":
            text += f"\n{describe_search(read_search(read_run(plan.out)))}\n"
        parts.append(f"{text}\nFigures: {name}/report.html\n")
    out = next(iter(plans.values())).comparison.out.parent
    text = f"# {escaping.text(schema.name)}: experiments\n\n" + "\n".join(parts)
    write_text(out / "report.md", text)
    return f"{text}\nreport: {out / 'report.md'}"


def _obstacle(arm: str, tasks: tuple[str, ...]) -> str:
    """Why an arm cannot be trained for these tasks; empty if it can."""
    try:
        check_arm(parse_recipe(arm), tasks)
    except ValueError as error:
        return str(error)
    return ""


def describe_left_out(study: StudyPlan) -> list[str]:
    """The arms that are left out, one per line."""
    reason = "Left out, as it does not suit the data set's tasks"
    return [f"{reason}: {escaping.code(arm)}: {why}" for arm, why in study.left_out.items()]
