"""A comparison as Markdown tables that read well in a terminal too."""

from collections.abc import Mapping, Sequence
from typing import Any

from dlrm_mtl.reporting.escaping import code, text
from dlrm_mtl.reporting.words import warn_of_length


def format_comparison(comparison: Mapping[str, Any]) -> str:
    """Three tables: NE gains, metrics, and cost of each arm against the control."""
    control, tasks, arms = comparison["control"], comparison["tasks"], comparison["arms"]
    treatments = {name: arm for name, arm in arms.items() if name != control}
    seeds = len(arms[control]["seeds"])
    gains = _table(
        ["arm", "average", *map(text, tasks)],
        [
            [
                text(name),
                _interval(arm["average_ne_gain_percent"]),
                *(_interval(arm["tasks"][t]["ne_gain_percent"]) for t in tasks),
            ]
            for name, arm in treatments.items()
        ],
    )
    bayes_ne = comparison["bayes_ne"]
    metrics = _table(
        ["task", "arm", "NE", *(["Bayes NE"] if bayes_ne else []), "AUC", "calibration"],
        [
            [
                text(task),
                text(name),
                _ne(arm["tasks"][task]),
                *([_number(bayes_ne[task]) if task in bayes_ne else ""] if bayes_ne else []),
                _number(arm["tasks"][task]["auc"]),
                _number(arm["tasks"][task]["calibration"]),
            ]
            for task in tasks
            for name, arm in arms.items()
        ],
    )
    parts = [
        *warn_of_length(comparison),
        f"NE gain (%) over {code(control)}, {seeds} seed{'s' * (seeds != 1)}; positive is better;"
        f" 95 % intervals: {comparison['intervals']}",
        gains,
        "Evaluation, mean over seeds" + ("; Bayes NE: that of the true probabilities" if bayes_ne else ""),
        metrics,
        "Speed, global samples per second over timed windows",
        _speed_table(arms),
        *_losses(arms),
    ]
    return "\n\n".join(parts) + "\n"


def format_result(summary: Mapping[str, Any]) -> str:
    """Evaluation metrics of a single run, one row per task and arm."""
    rows = [
        [text(task), text(name), _number(values["ne"]), _number(values["auc"]), _number(values["calibration"])]
        for name, arm in summary["arms"].items()
        for task, values in arm["tasks"].items()
    ]
    table = _table(["task", "arm", "NE", "AUC", "calibration"], rows)
    return "\n\n".join([table, *_losses(summary["arms"]), *warn_of_length(summary)])


def _speed_table(arms: Mapping[str, Any]) -> str:
    header = ["arm", "QPS median", "P10 to P90", "change (%)"]
    rows = [[text(name), *_rate(arm["qps"])] for name, arm in arms.items()]
    if any(arm.get("end_to_end_qps") for arm in arms.values()):
        header += ["end to end", "change (%)"]
        for row, arm in zip(rows, arms.values(), strict=True):
            median, _, change = _rate(arm.get("end_to_end_qps"))
            row += [median, change]
    return _table(header, rows)


def _rate(rate: Mapping[str, Any] | None) -> tuple[str, str, str]:
    """Median, spread, and change against the control."""
    if rate is None:
        return "not timed: too few steps", "", ""
    change = rate["change_percent"]
    return (
        f"{rate['median']:,.0f}",
        f"{rate['p10']:,.0f} to {rate['p90']:,.0f}",
        f"{change['median']:+.2f} [{change['low']:+.2f}, {change['high']:+.2f}]",
    )


def _losses(arms: Mapping[str, Any]) -> list[str]:
    """What of the training had no effect, a paragraph per arm that has any such."""
    paragraphs = []
    for name, arm in arms.items():
        skipped, lost = arm.get("skipped_steps", 0), arm.get("rows_lost", 0)
        if skipped or lost:
            paragraphs.append(
                f"{code(name)}: {skipped:,} steps skipped, as a loss or gradient was not finite;"
                f" {lost:,} training rows lost with their shards"
            )
    return paragraphs


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _ne(task: Mapping[str, Any]) -> str:
    """NE; marked NEX (NE explosion) if it exploded in some seed."""
    exploded = task.get("exploded_seeds")
    return " ".join(filter(None, [_number(task["ne"]), f"NEX in seeds {exploded}" if exploded else ""]))


def _interval(record: Mapping[str, float] | None) -> str:
    return "NEX" if record is None else f"{record['mean']:+.3f} [{record['low']:+.3f}, {record['high']:+.3f}]"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[i]) for line in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([line(header), rule, *(line(row) for row in rows)])
