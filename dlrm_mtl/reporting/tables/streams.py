"""Tables of a stream."""

from collections.abc import Mapping
from typing import Any

from dlrm_mtl.reporting.normalized_loss import gain_of, key_of, loss_name, loss_of, titles_of_tasks
from dlrm_mtl.reporting.tables.metrics import ERRORS, metrics_of
from dlrm_mtl.reporting.tables.table import Name, Table, ends_cell, gain_cell, number
from dlrm_mtl.reporting.words.arm import verdict_text

Record = Mapping[str, Any]


def gains_over_days_table(stream: Record) -> Table | None:
    """One row per arm: the mean gain over days, on average and on each task; None before a day was evaluated."""
    if not stream["evaluated_days"]:
        return None
    return Table(
        ["arm", "average", *map(Name, titles_of_tasks(stream).values()), "QPS change (%)"],
        [
            [
                Name(name),
                gain_cell(arm["average_ne_gain_percent"]),
                *(_gain(arm["tasks"][task]) for task in stream["tasks"]),
                _change(arm["qps_change_percent"]),
            ]
            for name, arm in stream["arms"].items()
            if name != stream["control"]
        ],
    )


def task_table(stream: Record, task: str) -> Table | None:
    """One row per arm: the metrics of a task over its days; None before it was evaluated."""
    records = {name: arm["tasks"][task] for name, arm in stream["arms"].items()}
    if not records[stream["control"]]["days"]:
        return None
    keys, loss = metrics_of(list(records.values())), key_of("ne", records[stream["control"]]).upper()
    return Table(
        [
            *("arm", "days", loss, *keys.values()),
            *(f"{loss} gain (%)", "verdict", "change per day", "task weight"),
        ],
        [
            [
                *(Name(name), str(one["days"]), number(loss_of(one))),
                *(number(one[key], 3 if key in ERRORS else 4) for key in keys),
                *(["", "", ""] if name == stream["control"] else _gain_cells(one)),
                number(one["task_weight"], 3),
            ]
            for name, one in records.items()
        ],
    )


def days_table(stream: Record) -> Table:
    """One row per day."""
    treatments = [name for name in stream["arms"] if name != stream["control"]]
    return Table(
        [
            *(
                "day",
                "from",
                "rows",
                "tasks",
                "ids",
                "new",
                "recycled",
                "waiting",
                "evaluation (s)",
                "training (s)",
                "QPS of the control",
            ),
            *(Name(f"average {loss_name(stream)} gain (%) of {name}") for name in treatments),
        ],
        [
            [
                Name(day["name"]),
                day["period"]["start"].replace("T", " ") if day["period"] else "-",
                f"{day['rows']:,}",
                _tasks(day),
                *(_sum(day, key) for key in ("ids", "new", "recycled", "waiting")),
                *(number(day["seconds"] and day["seconds"][key], 1) for key in ("evaluation", "training")),
                _qps(day["arms"].get(stream["control"])),
                *(_day_gain(day["arms"].get(name)) for name in treatments),
            ]
            for day in stream["days"]
        ],
    )


def _change(change: Record | None) -> str:
    return f"{change['mean']:+.2f} {ends_cell(change, 2, without='(no interval)')}" if change else "-"


def _gain(task: Record) -> str:
    return gain_cell(gain_of(task)) if task["days"] else "-"


def _gain_cells(task: Record) -> list[str]:
    gain, change = gain_of(task), task[f"{key_of('ne', task)}_gain_change_per_day"]
    if gain is None:
        return ["NEX", "-", "-"]
    return [gain_cell(gain), verdict_text(gain), "-" if change is None else gain_cell(change)]


def _sum(day: Record, key: str) -> str:
    """Over the tables."""
    return f"{sum(table[key] or 0 for table in day['tables'].values()):,}"


def _tasks(day: Record) -> Name:
    if day["skipped"] is not None:
        return Name(f"skipped: {day['skipped']}")
    changes = [f"+{task}" for task in day["new_tasks"]] + [f"-{task}" for task in day["ended_tasks"]]
    return Name(" ".join([str(len(day["tasks"])), *changes]))


def _qps(arm: Record | None) -> str:
    return f"{arm['qps']:,.0f}" if arm and arm["qps"] else "-"


def _day_gain(arm: Record | None) -> str:
    gain = arm and arm["average_ne_gain_percent"]
    return gain_cell(gain) if gain else "-"
