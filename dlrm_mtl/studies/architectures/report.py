"""The results of the experiment ``architectures``: all its comparisons in one, and in text."""

from collections.abc import Mapping
from typing import Any

from dlrm_mtl.reporting.comparison import RATES, compare_seeds
from dlrm_mtl.reporting.effects.gains import Gains, gains_over
from dlrm_mtl.reporting.effects.recorded_gains import with_gains_over
from dlrm_mtl.reporting.escaping import code, text
from dlrm_mtl.reporting.normalized_loss import gain_of, loss_of
from dlrm_mtl.reporting.runs.report_data import Record, Run
from dlrm_mtl.reporting.tables.gains import treatments
from dlrm_mtl.reporting.tables.table import Name, Table, ends_cell, gain_cell, number
from dlrm_mtl.reporting.words.arm import verdict_text

OF_ALL = ("control", "tasks", "task_weights", "planned_seeds", "clusters", "intervals", "families")
OF_TASK = ("ne", "auc", "calibration", "ne_gain_percent", "kind", "nmse", "xauc", "mean_error", "nmse_gain_percent")
"""Fields of comparison.json that are kept for pairs of architecture and arm."""


def join_architectures(runs: Mapping[str, Run]) -> Record:
    """One comparison of every pair ``ARCHITECTURE + ARM``, over the control of the first architecture, paired by seed
    and evaluation row, in the form of comparison.json. It has no speeds: those of two architectures are not measured
    side by side.

    Args:
        runs: by architecture; of the same data, arms and seeds.
    """
    first = next(iter(runs.values()))
    baseline = {summary["seed"]: summary["arms"][first.control] for summary in first.seeds}
    seeds: dict[int, dict[str, Any]] = {seed: {"seed": seed, "arms": {}} for seed in baseline}
    for architecture, run in runs.items():
        for summary in run.seeds:
            seed = summary["seed"]
            for arm, record in summary["arms"].items():
                measured = {key: value for key, value in record.items() if key not in RATES}
                seeds[seed]["arms"][pair_name(architecture, arm)] = with_gains_over(baseline[seed], measured)
    comparison = compare_seeds(
        first.comparison["tasks"],
        list(seeds.values()),
        first.comparison["bayes_ne"],
        first.comparison["task_weights"],
        first.comparison["planned_seeds"],
        gains=gains_of_pairs(runs),
        clusters=first.comparison["clusters"],
    )
    arms = {
        pair: {
            **{key: arm[key] for key in ("seeds", "average_ne_gain_percent", "loses_nothing")},
            "tasks": {
                task: {key: values[key] for key in OF_TASK if key in values} for task, values in arm["tasks"].items()
            },
        }
        for pair, arm in comparison["arms"].items()
    }
    return {**{key: comparison[key] for key in OF_ALL}, "arms": arms}


def gains_of_pairs(runs: Mapping[str, Run]) -> dict[int, dict[str, Gains]]:
    """By seed and pair, gains over the control of the first architecture; of the seeds whose rows are kept for it."""
    first = next(iter(runs.values()))
    return {
        seed: {
            pair_name(architecture, arm): gains_over(arms[first.control].estimates, evaluation.estimates)
            for architecture, run in runs.items()
            for arm, evaluation in run.estimates.get(seed, {}).items()
        }
        for seed, arms in first.estimates.items()
    }


def format_architectures(record: Record, comparisons: Mapping[str, Record]) -> str:
    """``report.md``.

    Args:
        record: the content of ``architectures.json``.
        comparisons: each architecture's own comparison.
    """
    joined = record["comparison"]
    control = code(next(iter(comparisons.values()))["control"])
    over = code(joined["control"])
    seeds = len(joined["arms"][joined["control"]]["seeds"])
    parts = [
        f"# {text(record['data_set'])}: sharing architectures",
        f"The architectures; NE of {control}. Parameters are those of one model; QPS of two architectures are not"
        " measured side by side",
        _architectures_table(record, comparisons).markdown(),
        f"NE gain (%) over {control} of the same architecture, {seeds} seed{'s' * (seeds != 1)}; 95 % intervals:"
        f" {joined['intervals']}",
        _gains_table(
            {(name, arm): values for name, each in comparisons.items() for arm, values in treatments(each).items()}
        ).markdown(),
        f"NE gain (%) over {over}",
        _gains_table(
            {
                (name, arm): joined["arms"][pair_name(name, arm)]
                for name, each in comparisons.items()
                for arm in each["arms"]
                if pair_name(name, arm) != joined["control"]
            }
        ).markdown(),
        "Verdicts are taken among all arms and tasks of a comparison. Each architecture's report:",
        "\n".join(f"- {entry['run']}/report.md" for entry in record["architectures"].values()),
    ]
    return "\n\n".join(parts) + "\n"


def _architectures_table(record: Record, comparisons: Mapping[str, Record]) -> Table:
    tasks = record["comparison"]["tasks"]
    budget = next(iter(record["architectures"].values()))["parameters"]["dense"]
    rows = []
    for name, entry in record["architectures"].items():
        comparison, parameters = comparisons[name], entry["parameters"]
        control = comparison["arms"][comparison["control"]]
        rows.append(
            [
                Name(name),
                experts_cell(entry["model"]),
                f"{parameters['dense']:,}",
                f"{100 * parameters['dense'] / budget - 100:+.1f} %",
                f"{parameters['tables']:,}",
                number(control["qps"] and control["qps"]["median"], 0),
                *(number(loss_of(control["tasks"][task])) for task in tasks),
            ]
        )
    header = ["architecture", "expert_mlp", "dense parameters", "difference", "table parameters", "QPS"]
    return Table([*header, *(Name(task) for task in tasks)], rows)


def experts_cell(model: Record) -> str:
    """The layer sizes of an expert; empty where there is none."""
    return "" if model["sharing"] == "bottom" else "-".join(map(str, model["expert_mlp"]))


def _gains_table(arms: Mapping[tuple[str, str], Record]) -> Table:
    """The average, the task that gains least, and the change of QPS if it was measured."""
    header = ["architecture", "arm", "average", "verdict", "worst task", "gain of the worst task", "verdict"]
    rows = [[Name(name), Name(arm), *_gain_cells(values)] for (name, arm), values in arms.items()]
    if all(values.get("qps") for values in arms.values()):
        header.append("QPS (%)")
        for row, values in zip(rows, arms.values(), strict=True):
            change = values["qps"]["change_percent"]
            row.append(f"{change['median']:+.1f} {ends_cell(change, 1)}")
    return Table(header, rows, names=2)


def _gain_cells(arm: Record) -> list[str]:
    gains = {task: gain_of(values) for task, values in arm["tasks"].items()}
    if arm["average_ne_gain_percent"] is None:
        return ["NEX", "-", "-", "-", "-"]
    worst = min(gains, key=lambda task: float(gains[task]["mean"]))
    average = arm["average_ne_gain_percent"]
    return [
        *(gain_cell(average), verdict_text(average)),
        *(Name(worst), gain_cell(gains[worst]), verdict_text(gains[worst])),
    ]


def pair_name(architecture: str, arm: str) -> str:
    """The name of a pair in ``architectures.json``."""
    return f"{architecture} + {arm}"
