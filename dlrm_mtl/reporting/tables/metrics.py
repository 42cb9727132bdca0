"""Tables of metrics, calibration and speed."""

from collections.abc import Mapping
from typing import Any

from dlrm_mtl.reporting.effects.gains import METRICS
from dlrm_mtl.reporting.tables.gains import TITLES
from dlrm_mtl.reporting.tables.table import Name, Table, ends_cell, gain_cell, number
from dlrm_mtl.reporting.words.phrases import name_seeds

Record = Mapping[str, Any]


def evaluation_table(comparison: Record) -> Table | None:
    """Evaluation rows of each task; None if they were not keys."""
    evaluation = comparison["evaluation"]
    if not evaluation:
        return None
    columns = {"rows": "rows", "positives": "positives", "users": "clusters with both classes"}
    keys = [key for key in columns if any(counts[key] is not None for counts in evaluation.values())]
    return Table(
        ["task", *(columns[key] for key in keys)],
        [[Name(task), *(_count(counts[key]) for key in keys)] for task, counts in evaluation.items()],
    )


def metrics_table(comparison: Record) -> Table:
    """One row per task and arm."""
    tasks, arms, bayes_ne = comparison["tasks"], comparison["arms"], comparison["bayes_ne"]
    reached = [arm["tasks"][task] for arm in arms.values() for task in tasks]
    keys = [key for key in METRICS if any(values[key] is not None for values in reached)]
    return Table(
        ["task", "arm", "NE", *(["Bayes NE"] if bayes_ne else []), *(TITLES[key] for key in keys), "calibration"],
        [
            [
                Name(task),
                Name(name),
                _ne(arm["tasks"][task]),
                *([number(bayes_ne[task]) if task in bayes_ne else ""] if bayes_ne else []),
                *(number(arm["tasks"][task][key]) for key in keys),
                number(arm["tasks"][task]["calibration"]),
            ]
            for task in tasks
            for name, arm in arms.items()
        ],
        names=2,
    )


def products_table(comparison: Record) -> Table | None:
    """One row per product of tasks and arm that has it; None if there is none."""
    reached = [
        (product, name, arm["products"][product])
        for product in comparison.get("products", {})
        for name, arm in comparison["arms"].items()
        if product in arm["products"]
    ]
    if not reached:
        return None
    keys = [key for key in METRICS if any(values[key] is not None for _, _, values in reached)]
    return Table(
        ["task", "arm", "NE", *(TITLES[key] for key in keys), "calibration", "NE gain (%)"],
        [
            [
                Name(product),
                Name(name),
                _ne(values),
                *(number(values[key]) for key in keys),
                number(values["calibration"]),
                "" if name == comparison["control"] else gain_cell(values["ne_gain_percent"], without="-"),
            ]
            for product, name, values in reached
        ],
        names=2,
    )


def calibration_table(comparison: Record) -> Table | None:
    """One row per task and arm, one column per seed; None if seeds were not kept."""
    arms = comparison["arms"]
    seeds = sorted({seed for arm in arms.values() for seed in arm["seeds"]})
    rows = []
    for task in comparison["tasks"]:
        for name, arm in arms.items():
            by_seed = {one["seed"]: one for one in arm["tasks"][task]["calibration_by_seed"]}
            rows.append([Name(task), Name(name), *(_calibration(by_seed.get(seed)) for seed in seeds)])
    if not any(cell for row in rows for cell in row[2:]):
        return None
    return Table(["task", "arm", *(f"seed {seed}" for seed in seeds)], rows, names=2)


def deciles_table(comparison: Record) -> Table | None:
    """One row per task and arm, one column per tenth of the rows; None if these were not kept."""
    rows = [
        [Name(task), Name(name), *map(_ratios, zip(*by_seed, strict=True))]
        for task in comparison["tasks"]
        for name, arm in comparison["arms"].items()
        if (by_seed := [one["deciles"] for one in arm["tasks"][task]["deciles_by_seed"]])
    ]
    if not rows:
        return None
    most = max(map(len, rows))
    return Table(
        ["task", "arm", *(str(decile) for decile in range(1, most - 1))],
        [[*row, *[""] * (most - len(row))] for row in rows],
        names=2,
    )


def decile_ratio(decile: Record) -> float | None:
    """Mean prediction / rate of positives; None without positives."""
    return decile["predicted"] / decile["rate"] if decile["rate"] > 0 else None


def speed_table(arms: Record) -> Table:
    """One row per arm."""
    header = ["arm", "QPS median", "P10 to P90", "change (%)"]
    rows = [[Name(name), *_rate(arm["qps"])] for name, arm in arms.items()]
    if any(arm.get("end_to_end_qps") for arm in arms.values()):
        header += ["end to end", "change (%)"]
        for row, arm in zip(rows, arms.values(), strict=True):
            median, _, change = _rate(arm.get("end_to_end_qps"))
            row += [median, change]
    return Table(header, rows)


def result_table(arms: Record, kind: str = "tasks") -> Table | None:
    """The table of a single run: one row per arm and task, or product of tasks; None without any."""
    rows = [
        [Name(task), Name(name), number(values["ne"]), number(values["auc"]), number(values["calibration"])]
        for name, arm in arms.items()
        for task, values in arm.get(kind, {}).items()
    ]
    return Table(["task", "arm", "NE", "AUC", "calibration"], rows) if rows else None


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _rate(rate: Record | None) -> tuple[str, str, str]:
    """Median, spread, and change against the control."""
    if rate is None:
        return "not timed: too few steps", "", ""
    change = rate["change_percent"]
    return (
        f"{rate['median']:,.0f}",
        f"{rate['p10']:,.0f} to {rate['p90']:,.0f}",
        f"{change['median']:+.2f} {ends_cell(change, 2, without='(no interval)')}",
    )


def _calibration(one: Record | None) -> str:
    if one is None:
        return ""
    interval = f" {ends_cell(one, 3, sign='')}" if one["low"] is not None else ""
    return f"{number(one['calibration'], 3)}{interval}"


def _ratios(seeds: tuple[Record, ...]) -> str:
    """Lowest and highest ratio of one decile over seeds."""
    ratios = [ratio for decile in seeds if (ratio := decile_ratio(decile)) is not None]
    if len(ratios) < len(seeds):
        return "no positive"
    low, high = f"{min(ratios):.2f}", f"{max(ratios):.2f}"
    return low if low == high else f"{low} to {high}"


def _ne(task: Record) -> str:
    """NE; marked NEX (NE explosion) if it exploded with any seed."""
    exploded = task["exploded_seeds"]
    return " ".join(filter(None, [number(task["ne"]), f"NEX in {name_seeds(exploded)}" if exploded else ""]))
