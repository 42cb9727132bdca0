"""Runs experiments, one comparison each, and joins what they found in one report."""

from collections.abc import Sequence

from dlrm_mtl.config import CompareConfig, ExperimentConfig
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.files import write_text
from dlrm_mtl.reporting.comparing import run_comparison
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


def run_studies(plans: dict[str, CompareConfig], ranks: Ranks, schema: Schema) -> None:
    """Runs experiments in turn, and writes ``report.md`` of all. What is finished is not done again. Collective."""
    parts = []
    for name, plan in plans.items():
        if ranks.is_first:
            print(f"\n== {name}: {STUDIES[name].question}", flush=True)
        comparison = run_comparison(plan, ranks)
        text = f"## {STUDIES[name].title}\n\n{STUDIES[name].question}\n\n{format_comparison(comparison)}"
        if name == "search":
            text += f"\n{describe_search(comparison)}\n"
        parts.append(text)
    if ranks.is_first:
        out = next(iter(plans.values())).out.parent
        write_text(out / "report.md", f"# {schema.name}: experiments\n\n" + "\n".join(parts))
        print(f"\nreport: {out / 'report.md'}", flush=True)
