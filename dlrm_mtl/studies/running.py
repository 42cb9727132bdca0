"""Runs experiments, one comparison each, and joins what they found in one report."""

from collections.abc import Sequence

from dlrm_mtl.config import CompareConfig, ExperimentConfig
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.files import read_json, write_text
from dlrm_mtl.reporting.comparing import finish_comparison, run_comparison
from dlrm_mtl.reporting.markdown import format_comparison
from dlrm_mtl.schema import Schema
from dlrm_mtl.studies.catalog import STUDIES, study_arms
from dlrm_mtl.studies.search import describe_search


def plan_studies(config: ExperimentConfig, names: Sequence[str], schema: Schema) -> dict[str, CompareConfig]:
    """The comparison of each experiment, by name."""
    return {name: config.comparison(config.out / name, study_arms(name, config, len(schema.tasks))) for name in names}


def describe_work(plans: dict[str, CompareConfig], schema: Schema) -> str:
    """What the experiments will take, in lines."""
    lines, total = [], 0
    for name, plan in plans.items():
        steps = plan.epochs * (schema.rows("train") // plan.batch_size)
        steps = steps if plan.max_steps is None else min(steps, plan.max_steps)
        left = [seed for seed in range(plan.seeds) if not (plan.out / f"seed-{seed}.json").is_file()]
        rows = len(plan.arms) * len(left) * steps * plan.batch_size
        total += rows
        done = f", {plan.seeds - len(left)} of them finished before" if len(left) < plan.seeds else ""
        lines.append(
            f"{name}: {len(plan.arms)} arms x {plan.seeds} seeds{done} x {steps:,} steps of {plan.batch_size:,} rows:"
            f" {rows:,} rows to train on, {len(plan.arms) * len(left) * schema.rows('eval'):,} to evaluate on"
        )
    return "\n".join([*lines, f"together {total:,} training rows"])


def run_studies(plans: dict[str, CompareConfig], ranks: Ranks) -> None:
    """Runs experiments in turn. What is finished is not done again. Collective."""
    for name, plan in plans.items():
        if ranks.is_first:
            print(f"\n== {name}: {STUDIES[name].question}", flush=True)
        run_comparison(plan, ranks)


def finish_studies(plans: dict[str, CompareConfig], schema: Schema) -> str:
    """Writes the report of each experiment, and ``report.md`` of all.

    Returns:
        the latter, and where it is.
    """
    parts = []
    for name, plan in plans.items():
        finish_comparison(plan)
        comparison = read_json(plan.out / "comparison.json")
        text = f"## {STUDIES[name].title}\n\n{STUDIES[name].question}\n\n{format_comparison(comparison)}"
        if name == "search":
            text += f"\n{describe_search(comparison)}\n"
        parts.append(f"{text}\nFigures: {name}/report.html\n")
    out = next(iter(plans.values())).out.parent
    text = f"# {schema.name}: experiments\n\n" + "\n".join(parts)
    write_text(out / "report.md", text)
    return f"{text}\nreport: {out / 'report.md'}"
