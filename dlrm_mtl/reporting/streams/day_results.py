"""The results of one day, from its run directory."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

from dlrm_mtl.file_names import file_names
from dlrm_mtl.quoting import quote
from dlrm_mtl.reporting.normalized_loss import gain_key, is_regression, key_of, kind_of
from dlrm_mtl.reporting.runs.comparison_records import read_comparison
from dlrm_mtl.reporting.runs.report_data import read_windows
from dlrm_mtl.reporting.runs.run_records import Seed, read_record
from dlrm_mtl.reporting.streams.day_file import DAY_FILE, read_day_file

Record = Mapping[str, Any]

METRICS = ("ne", "recalibrated_ne", "calibration", "auc", "gauc")
"""Fields of an arm's binary task that a day has from its comparison.json, beside the gain."""
REGRESSION_METRICS = ("nmse", "mae", "mean_error", "xauc")
"""The same of a regression."""
ROWS = ("rows", "positives", "weight", "positive_weight", "label_mean", "label_variance")
"""What a day knows of a task's evaluation rows, from seed-S.json."""
_NOT_EVALUATED: Record = dict.fromkeys((*METRICS, "ne_gain_percent"))
GAIN = ("mean", "low", "high", "covers", "over_seeds", "over_rows")
"""Fields of a gain; verdicts are taken over the days."""


def read_day(directory: Path, arms: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """An entry of ``days`` in stream.json, see docs/streaming.md, without ``new_tasks`` and ``ended_tasks``.

    Raises:
        ValueError: a file is missing or malformed, or has no such arm; the message names it.
    """
    facts: dict[str, Any] = {"name": directory.name, **read_day_file(directory / DAY_FILE)}
    if facts["skipped"] is not None:
        return {**facts, "evaluation": {}, "arms": {}}
    files = [directory / f"seed-{seed}.json" for seed in seeds]
    summaries = [_read_seed(file, arms, facts["evaluated"]) for file in files]
    compared = None
    if facts["evaluated"]:
        compared = read_comparison(directory / "comparison.json")
        _require(directory / "comparison.json", compared["arms"], arms, facts["evaluated"])
    first = summaries[0]["arms"][arms[0]]["tasks"]
    return {
        **facts,
        "evaluation": {
            task: {
                **{key: first[task][key] for key in ROWS if first[task].get(key) is not None},
                "bayes_ne": compared["bayes_ne"].get(task) if compared else None,
            }
            for task in facts["evaluated"]
        },
        "arms": {
            arm: _arm(
                [summary["arms"][arm] for summary in summaries],
                [_weights(directory / f"seed-{seed}" / folder / "metrics.jsonl", facts["tasks"]) for seed in seeds],
                compared["arms"][arm] if compared else None,
                seeds,
                facts,
            )
            for arm, folder in file_names(arms).items()
        },
    }


def _read_seed(file: Path, arms: Sequence[str], tasks: Sequence[str]) -> Record:
    summary = read_record(file, Seed)
    _require(file, summary["arms"], arms, tasks)
    for task in tasks:
        record = summary["arms"][arms[0]]["tasks"][task]
        if not is_regression(record) and not record.get("positives"):
            raise ValueError(f"{file}: task {quote(task)} has no positive evaluation rows, expected both classes")
    return summary


def _require(file: Path, records: Record, arms: Sequence[str], tasks: Sequence[str]) -> None:
    """Raises a ValueError that names the file unless it has the arms with the tasks."""
    for arm in arms:
        if arm not in records or not records[arm]["tasks"].keys() >= set(tasks):
            raise ValueError(f"{file}: expected arm {quote(arm)} with the tasks {', '.join(map(quote, tasks))}")


def _arm(
    summaries: Sequence[Record],
    weights: Sequence[Mapping[str, float]],
    compared: Record | None,
    seeds: Sequence[int],
    facts: Record,
) -> dict[str, Any]:
    windows = [qps for summary in summaries for qps in summary["qps"]]
    tasks: dict[str, Any] = {}
    for task in facts["tasks"]:
        of_seeds = [summary["tasks"][task] if task in facts["evaluated"] else {} for summary in summaries]
        reached = compared["tasks"][task] if compared and task in facts["evaluated"] else _NOT_EVALUATED
        loss, gain = key_of("ne", reached), gain_key("ne", reached)
        of_seed = ("squared_error", "mean_error") if is_regression(reached) else ("log_loss", "calibration")
        by_seed = [
            {
                "seed": seed,
                **{key: own.get(key) for key in (loss, *of_seed)},
                gain: (own.get(gain) or {}).get("mean"),
                "task_weight": weight.get(task),
            }
            for seed, own, weight in zip(seeds, of_seeds, weights, strict=True)
        ]
        tasks[task] = {
            **kind_of(reached),
            **{key: reached[key] for key in (REGRESSION_METRICS if is_regression(reached) else METRICS)},
            gain: _gain(reached, gain),
            "task_weight": _mean([weight.get(task) for weight in weights]),
            "by_seed": by_seed,
        }
    return {
        "qps": median(windows) if windows else None,
        "average_ne_gain_percent": _gain(compared, "average_ne_gain_percent") if compared else None,
        "tasks": tasks,
    }


def _gain(compared: Record, key: str) -> Record | None:
    gain: Record | None = compared[key]
    return gain and {name: gain[name] for name in GAIN}


def _weights(log: Path, tasks: Sequence[str]) -> dict[str, float]:
    """The mean over a day's windows of the weight that the method gave each task; none without a log, or where the
    method has no task weights."""
    windows = [window["task_weights"] or {} for window in read_windows(log)] if log.is_file() else []
    by_task = {task: [weight for of_task in windows if (weight := of_task.get(task)) is not None] for task in tasks}
    return {task: fmean(values) for task, values in by_task.items() if values}


def _mean(values: Sequence[float | None]) -> float | None:
    """None if any seed has no value."""
    there = [value for value in values if value is not None]
    return fmean(there) if len(there) == len(values) else None
