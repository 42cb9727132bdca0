"""Made-up run directories of streams, for tests of the report."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dlrm_mtl.files import write_json
from tests.reporting.runs import interval, window, write_run

ARMS = ("mean", "balanced")
SEEDS = (0, 1, 2)
ROWS, POSITIVES = 1000, 200
DAYS: Mapping[str, tuple[Sequence[str], Sequence[str]] | None] = {
    "0000-a": (["click"], []),
    "0001-b": (["click", "buy"], ["click"]),
    "0002-c": None,
    "0003-d": (["click", "buy"], ["click", "buy"]),
    "0004-e": (["buy"], ["buy"]),
    "0005-f": (["buy"], ["buy"]),
}
"""Tasks of each day, and those that were evaluated; None: skipped."""


def gain_of(task: str, day: int, seed: int) -> float:
    return {"click": 0.5, "buy": 0.2}[task] + 0.1 * day * (task == "buy") + 0.01 * seed + 0.03 * (day * day % 5)


def entropy(rate: float) -> float:
    return -rate * math.log(rate) - (1 - rate) * math.log1p(-rate)


def positives_on(day: int) -> int:
    return POSITIVES + 10 * day


def summary(seed: int, day: int, tasks: Sequence[str], evaluated: bool = True) -> dict[str, Any]:
    arms = {}
    for arm in ARMS:
        records: dict[str, Any] = {}
        for task in tasks:
            gain = gain_of(task, day, seed) if arm != "mean" else 0.0
            ne = 0.9 - gain / 100
            loss = ne * entropy(positives_on(day) / ROWS)
            measured = {"ne": ne, "auc": 0.7, "calibration": 1.1, "log_loss": loss, "ne_gain_percent": interval(gain)}
            records[task] = {
                **(measured if evaluated else dict.fromkeys(measured)),
                "rows": ROWS if evaluated else 0,
                "positives": positives_on(day) if evaluated else 0,
            }
        average = interval(float(np.mean([gain_of(t, day, seed) * (arm != "mean") for t in tasks])))
        arms[arm] = {
            "qps": [900.0, 1100.0] if arm == "mean" else [950.0 - day, 950.0],
            "skipped_steps": 0,
            "rows_lost": 0,
            "average_ne_gain_percent": average,
            "tasks": records,
        }
    return {"seed": seed, "arms": arms}


def write_stream_run(run: Path, days: Mapping[str, Any] = DAYS) -> Path:
    for number, (name, tasks) in enumerate(days.items()):
        directory = run / "days" / name
        facts: dict[str, Any] = {"data_set": "shop", "rows": ROWS, "tasks": ["click"], "evaluated": [], "skipped": None}
        start, stop = str(number), str(number + 1)
        facts |= {"period": {"start": start, "stop": stop}, "seconds": {"evaluation": 2.5, "training": 12.0}}
        if tasks is None:
            directory.mkdir(parents=True)
            write_json(directory / "day.json", {**facts, "skipped": "a shard is damaged"})
            continue
        trained, evaluated = tasks
        of_seeds = [summary(seed, number, evaluated or trained, bool(evaluated)) for seed in SEEDS]
        write_run(directory, of_seeds, evaluated or trained, windows=2)
        if not evaluated:
            (directory / "comparison.json").unlink()
        for seed in SEEDS:
            for arm in ARMS:
                lines = [window(step, trained, seed) for step in (10, 20)]
                text = "".join(f"{line}\n" for line in map(json.dumps, lines))
                (directory / f"seed-{seed}" / arm / "metrics.jsonl").write_text(text)
        tables = {
            "user": {"ids": 100 + number, "new": 1, "recycled": number},
            "hashed": {"ids": 9, "new": 0, "recycled": 0},
        }
        write_json(
            directory / "day.json",
            {**facts, "tasks": trained, "evaluated": evaluated, "tables": tables, "unseen_before": {"user": 0.25}},
        )
    write_json(
        run / "config.json", {"data": [], "arms": ARMS, "seeds": len(SEEDS), "first_seed": 0, "task_weights": []}
    )
    return run
