"""comparison.json: what a comparison found, over its seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from dlrm_mtl.reporting.statistics import Interval, median_interval, paired_bootstrap, t_interval
from dlrm_mtl.training.loop import ArmResult

METRICS = ("ne", "auc", "calibration")
ZERO = Interval(0.0, 0.0, 0.0)


def summarize_seed(seed: int, tasks: Sequence[str], arms: Mapping[str, ArmResult]) -> dict[str, Any]:
    """A seed's results as JSON values: metrics and windows of each arm, gains over the first arm with their paired
    bootstrap over evaluation rows."""
    control = next(iter(arms.values()))
    summary: dict[str, Any] = {"seed": seed, "arms": {}}
    for name, arm in arms.items():
        gains, average = ([ZERO] * len(tasks), ZERO)
        if arm is not control:
            gains, average = paired_bootstrap(control.sums, arm.sums, seed)
        summary["arms"][name] = {
            "qps": list(arm.qps),
            "average_ne_gain_percent": _mean_record(average),
            "tasks": {
                task: {**asdict(metrics), "ne_gain_percent": _mean_record(gain)}
                for task, metrics, gain in zip(tasks, arm.metrics, gains, strict=True)
            },
        }
    return summary


def compare_seeds(
    tasks: Sequence[str], seeds: Sequence[Mapping[str, Any]], bayes_ne: Mapping[str, float | None]
) -> dict[str, Any]:
    """The comparison over seeds; the first arm is the control.

    NE, AUC and calibration are means over seeds. Intervals of NE gains are Student's over seeds, or, of a single seed,
    the paired bootstrap over evaluation rows. QPS are pooled over seeds; changes are paired window by window.

    Args:
        seeds: results of :func:`summarize_seed`.
        bayes_ne: NE of the true probabilities, for tasks where they are known.
    """
    names = list(seeds[0]["arms"])
    control = names[0]
    return {
        "control": control,
        "tasks": list(tasks),
        "bayes_ne": {task: value for task, value in bayes_ne.items() if value is not None},
        "intervals": "t over seeds" if len(seeds) > 1 else "paired bootstrap over evaluation rows",
        "arms": {
            name: {
                "seeds": [seed["seed"] for seed in seeds],
                "qps": _qps(
                    [seed["arms"][control]["qps"] for seed in seeds], [seed["arms"][name]["qps"] for seed in seeds]
                ),
                "average_ne_gain_percent": _over_seeds(
                    [seed["arms"][name]["average_ne_gain_percent"] for seed in seeds]
                ),
                "tasks": {
                    task: {
                        **{key: _mean([seed["arms"][name]["tasks"][task][key] for seed in seeds]) for key in METRICS},
                        "ne_gain_percent": _over_seeds(
                            [seed["arms"][name]["tasks"][task]["ne_gain_percent"] for seed in seeds]
                        ),
                    }
                    for task in tasks
                },
            }
            for name in names
        },
    }


def _qps(control: Sequence[Sequence[float]], arm: Sequence[Sequence[float]]) -> dict[str, Any] | None:
    """None if no window was timed."""
    windows = [value for seed in arm for value in seed]
    if not windows:
        return None
    baseline = [value for seed in control for value in seed]
    changes = [100 * (mine / theirs - 1) for mine, theirs in zip(windows, baseline, strict=True)]
    change = median_interval(changes)
    p10, median, p90 = np.quantile(windows, [0.1, 0.5, 0.9]).tolist()
    return {
        "median": median,
        "p10": p10,
        "p90": p90,
        "windows": len(windows),
        "change_percent": {"median": change.center, "low": change.low, "high": change.high},
    }


def _over_seeds(gains: Sequence[Mapping[str, float]]) -> dict[str, float]:
    if len(gains) == 1:
        return dict(gains[0])
    return _mean_record(t_interval([gain["mean"] for gain in gains]))


def _mean_record(interval: Interval) -> dict[str, float]:
    return {"mean": interval.center, "low": interval.low, "high": interval.high}


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
