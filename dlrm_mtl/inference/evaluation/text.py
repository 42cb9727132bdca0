"""The result of an evaluation as tables for a terminal."""

from collections.abc import Mapping
from typing import Any

from dlrm_mtl.reporting.escaping import code
from dlrm_mtl.reporting.normalized_loss import key_of, loss_name
from dlrm_mtl.reporting.tables.gains import gains_table, metric_gains_table
from dlrm_mtl.reporting.tables.metrics import ERRORS, metrics_of
from dlrm_mtl.reporting.tables.table import Name, Table, ends_cell, number

Record = Mapping[str, Any]


def format_evaluation(result: Record) -> str:
    """Metrics of every model, and gains over the first."""
    parts = [
        f"{result['data_set']}, split {result['split']}; half widths and brackets: 95 % intervals for other rows"
        f" ({result['clusters']})",
        _metrics_table(result, "tasks"),
    ]
    if result["products"]:
        parts += [
            "Products: a task and all that it is given are positive, over all rows",
            _metrics_table(result, "products"),
        ]
    if len(result["arms"]) > 1:
        title = f"{loss_name(result)} gain (%) over {code(result['control'])}; positive is better"
        parts += [title, gains_table(result).markdown()]
        if others := metric_gains_table(result):
            parts += ["Gains in other metrics: 100 times the difference", others.markdown()]
    return "\n\n".join(parts)


def _metrics_table(result: Record, kind: str) -> str:
    """One row per task, or product of tasks, and model."""
    rows = [(name, arm, values) for arm, record in result["arms"].items() for name, values in record[kind].items()]
    rows.sort(key=lambda row: list(result["evaluation" if kind == "tasks" else "products"]).index(row[0]))
    metrics = metrics_of([values for _, _, values in rows])
    return Table(
        ["task", "rows", "positives", "arm", loss_name(result), *metrics.values()],
        [
            [
                Name(name),
                f"{values['rows']:,}",
                f"{values['positives']:,}" if "positives" in values else "-",
                Name(arm),
                _with_half_width(values, key_of("ne", values)),
                *(_cell(values, metric) for metric in metrics),
            ]
            for name, arm, values in rows
        ],
        names=4,
    ).markdown()


def _cell(values: Record, metric: str) -> str:
    if metric not in values:
        return "-"
    if metric in ERRORS:
        sign = "" if metric == "calibration" else "+"
        return f"{number(values[metric])} {ends_cell(values[f'{metric}_interval'], sign=sign, without='')}"
    return _with_half_width(values, metric)


def _with_half_width(values: Record, metric: str) -> str:
    interval = values[f"{metric}_interval"]
    half = f" ± {(interval['high'] - interval['low']) / 2:.4f}" if interval else ""
    return f"{number(values[metric])}{half}"
