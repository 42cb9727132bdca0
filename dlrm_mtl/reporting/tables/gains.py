"""Tables of gains: NE and NMSE with verdicts, other metrics, segments."""

from collections.abc import Mapping
from typing import Any

from dlrm_mtl.reporting.effects.gains import METRICS, REGRESSION_METRICS
from dlrm_mtl.reporting.normalized_loss import gain_key, gain_of, loss_name, titles_of_tasks
from dlrm_mtl.reporting.tables.table import Name, Table, ends_cell, gain_cell, number
from dlrm_mtl.reporting.words.arm import CLAIMS, claim_of, verdict_text
from dlrm_mtl.reporting.words.cost import cost_claim

Record = Mapping[str, Any]

TITLES = {
    "auc": "AUC",
    "auprc": "AUPRC",
    "gauc": "GAUC",
    "uauc": "uAUC",
    "recalibrated_ne": "NE, recalibrated",
    "xauc": "XAUC",
    "mae": "MAE",
}


def claims_table(comparison: Record) -> Table:
    """The claim for each arm."""
    return Table(
        ["arm", "claim on its tasks", "on average", "speed"],
        [
            [Name(name), CLAIMS[claim_of(arm)], _verdict(arm["average_ne_gain_percent"]), cost_claim(arm["qps"])]
            for name, arm in treatments(comparison).items()
        ],
    )


def gains_table(comparison: Record) -> Table:
    """Gains in NE and NMSE: one row per arm, with the average and each task."""
    tasks = titles_of_tasks(comparison)
    return Table(
        ["arm", "average", *map(Name, tasks.values())],
        [
            [
                Name(name),
                gain_cell(arm["average_ne_gain_percent"]),
                *(gain_cell(gain_of(arm["tasks"][task])) for task in tasks),
            ]
            for name, arm in treatments(comparison).items()
        ],
    )


def verdicts_table(comparison: Record) -> Table:
    """One row per arm and task, and per average: verdict, intervals by what they cover, detectable effect."""
    return Table(
        ["arm", "task", "verdict", "gain (%)", "other seeds", "other rows", "both", "p", "p (Holm)", "detectable"],
        [
            [Name(name), task, *_verdict_cells(gain)]
            for name, arm in treatments(comparison).items()
            for task, gain in (
                ("(average)", arm["average_ne_gain_percent"]),
                *((Name(title), gain_of(arm["tasks"][task])) for task, title in titles_of_tasks(comparison).items()),
            )
        ],
        names=2,
    )


def metric_gains_table(comparison: Record) -> Table | None:
    """Gains in other metrics, one column per metric that any arm has; None if there is none."""
    of_tasks = [
        (name, title, arm["tasks"][task])
        for name, arm in treatments(comparison).items()
        for task, title in titles_of_tasks(comparison).items()
    ]

    def gain(metric: str, values: Record) -> Record | None:
        return values.get(gain_key(metric, values))

    metrics = ("relative_ne", *METRICS, *REGRESSION_METRICS)
    keys = [key for key in metrics if any(gain(key, values) for _, _, values in of_tasks)]
    if not keys:
        return None
    titles = {**TITLES, "relative_ne": f"{loss_name(comparison)}, relative"}
    return Table(
        ["arm", "task", *(titles[key] for key in keys)],
        [
            [Name(name), Name(title), *(gain_cell(gain(key, values), without="-") for key in keys)]
            for name, title, values in of_tasks
        ],
        names=2,
    )


def segment_tables(comparison: Record) -> dict[str, Table]:
    """Gains in NE and NMSE by segment, one row per arm and value with evaluation rows."""
    tasks, arms = titles_of_tasks(comparison), treatments(comparison)
    segments = dict.fromkeys(segment for arm in arms.values() for segment in arm["segments"])
    return {
        segment: Table(
            ["arm", Name(segment), "rows", "average", *map(Name, tasks.values())],
            [
                [
                    Name(name),
                    Name(value),
                    f"{record['rows']:,}",
                    gain_cell(record["average_ne_gain_percent"], without="-"),
                    *(gain_cell(gain_of(record["tasks"][task]), without="-") for task in tasks),
                ]
                for name, arm in arms.items()
                for value, record in arm["segments"].get(segment, {}).items()
                if record["rows"]
            ],
            names=2,
        )
        for segment in segments
    }


def treatments(comparison: Record) -> dict[str, Record]:
    """The arms but the control."""
    return {name: arm for name, arm in comparison["arms"].items() if name != comparison["control"]}


def _verdict(gain: Record | None) -> str:
    return "NEX" if gain is None else verdict_text(gain)


def _verdict_cells(gain: Record | None) -> list[str]:
    if gain is None:
        return ["NEX", *["-"] * 7]
    return [
        verdict_text(gain),
        f"{gain['mean']:+.3f}",
        ends_cell(gain["over_seeds"], without="-"),
        ends_cell(gain["over_rows"], without="-"),
        ends_cell(gain) if gain["covers"] == "seeds and rows" else "-",
        _p(gain["p"]),
        _p(gain["p_holm"]),
        number(gain["detectable"], 3),
    ]


def _p(value: float | None) -> str:
    return "< 0.001" if value is not None and value < 0.001 else number(value, 3)
