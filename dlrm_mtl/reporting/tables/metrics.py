"""Tables of metrics, calibration and speed."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from dlrm_mtl.reporting.effects.gains import METRICS, REGRESSION_METRICS
from dlrm_mtl.reporting.normalized_loss import gain_of, is_regression, loss_name, loss_of
from dlrm_mtl.reporting.tables.gains import TITLES
from dlrm_mtl.reporting.tables.table import Name, Table, ends_cell, gain_cell, number
from dlrm_mtl.reporting.words.phrases import name_seeds

Record = Mapping[str, Any]

ERRORS = ("calibration", "mean_error")
METRIC_TITLES = {
    **{key: TITLES[key] for key in (*METRICS, *REGRESSION_METRICS, "mae")},
    "calibration": "calibration",
    "mean_error": "mean error",
}


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


def metrics_of(tasks: Sequence[Record]) -> dict[str, str]:
    """The metrics beside NE and NMSE that any of some tasks has, with their titles; calibration and mean error also
    where they are undefined."""
    there = {key for values in tasks for key, value in values.items() if value is not None or key in ERRORS}
    return {key: title for key, title in METRIC_TITLES.items() if key in there}


def metrics_table(comparison: Record) -> Table:
    """One row per task and arm."""
    tasks, arms, bayes_ne = comparison["tasks"], comparison["arms"], comparison["bayes_ne"]
    keys = metrics_of([arm["tasks"][task] for arm in arms.values() for task in tasks])
    return Table(
        ["task", "arm", loss_name(comparison), *(["Bayes NE"] if bayes_ne else []), *keys.values()],
        [
            [
                Name(task),
                Name(name),
                _loss(arm["tasks"][task]),
                *([number(bayes_ne[task]) if task in bayes_ne else ""] if bayes_ne else []),
                *(number(arm["tasks"][task].get(key)) for key in keys),
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
    keys = metrics_of([values for _, _, values in reached])
    return Table(
        ["task", "arm", "NE", *keys.values(), "NE gain (%)"],
        [
            [
                Name(product),
                Name(name),
                _loss(values),
                *(number(values[key]) for key in keys),
                "" if name == comparison["control"] else gain_cell(gain_of(values), without="-"),
            ]
            for product, name, values in reached
        ],
        names=2,
    )


def calibration_table(comparison: Record) -> Table | None:
    """Of the binary tasks: one row per task and arm, one column per seed; None if seeds were not kept."""
    return _by_seed(comparison, "calibration", "")


def mean_error_table(comparison: Record) -> Table | None:
    """The same of the regressions."""
    return _by_seed(comparison, "mean_error", "+")


def _by_seed(comparison: Record, metric: str, sign: str) -> Table | None:
    arms = comparison["arms"]
    seeds = sorted({seed for arm in arms.values() for seed in arm["seeds"]})
    rows = []
    for task in comparison["tasks"]:
        for name, arm in arms.items():
            by_seed = {one["seed"]: one for one in arm["tasks"][task].get(f"{metric}_by_seed", ())}
            if by_seed:
                rows.append([Name(task), Name(name), *(_of_seed(by_seed.get(seed), metric, sign) for seed in seeds)])
    if not any(cell for row in rows for cell in row[2:]):
        return None
    return Table(["task", "arm", *(f"seed {seed}" for seed in seeds)], rows, names=2)


def deciles_table(comparison: Record) -> Table | None:
    """Of the binary tasks: one row per task and arm, one column per tenth of the rows; None if these were not kept."""
    return _deciles(comparison, False, _ratios)


def label_deciles_table(comparison: Record) -> Table | None:
    """The same of the regressions."""
    return _deciles(comparison, True, _predictions_and_labels)


def _deciles(comparison: Record, of_regressions: bool, cell: Callable[[tuple[Record, ...]], str]) -> Table | None:
    rows = [
        [Name(task), Name(name), *map(cell, zip(*by_seed, strict=True))]
        for task in comparison["tasks"]
        for name, arm in comparison["arms"].items()
        if is_regression(arm["tasks"][task]) == of_regressions
        and (by_seed := [one["deciles"] for one in arm["tasks"][task]["deciles_by_seed"]])
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
    records = [(task, name, values) for name, arm in arms.items() for task, values in arm.get(kind, {}).items()]
    if not records:
        return None
    of_kinds = [values for _, _, values in records]
    loss = "NE or NMSE" if any(map(is_regression, of_kinds)) else "NE"
    shown = ("auc", "xauc", "mae", "calibration", "mean_error")
    keys = {key: title for key, title in METRIC_TITLES.items() if key in shown and any(key in one for one in of_kinds)}
    return Table(
        ["task", "arm", loss, *keys.values()],
        [
            [Name(task), Name(name), number(loss_of(values)), *(number(values.get(key)) for key in keys)]
            for task, name, values in records
        ],
    )


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


def _of_seed(one: Record | None, metric: str, sign: str) -> str:
    if one is None:
        return ""
    interval = f" {ends_cell(one, 3, sign=sign)}" if one["low"] is not None else ""
    return f"{number(one[metric], 3)}{interval}"


def _ratios(seeds: tuple[Record, ...]) -> str:
    """Lowest and highest ratio of one decile over seeds."""
    ratios = [ratio for decile in seeds if (ratio := decile_ratio(decile)) is not None]
    if len(ratios) < len(seeds):
        return "no positive"
    low, high = f"{min(ratios):.2f}", f"{max(ratios):.2f}"
    return low if low == high else f"{low} to {high}"


def _predictions_and_labels(seeds: tuple[Record, ...]) -> str:
    """Mean prediction and mean label of one decile, averaged over seeds."""
    return " / ".join(f"{fmean(decile[key] for decile in seeds):.4g}" for key in ("predicted", "label"))


def _loss(task: Record) -> str:
    """NE or NMSE; marked NEX (NE explosion) if it exploded with any seed."""
    exploded = task["exploded_seeds"]
    return " ".join(filter(None, [number(loss_of(task)), f"NEX in {name_seeds(exploded)}" if exploded else ""]))
