"""comparison.json: what a comparison found, over its seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from dlrm_mtl.reporting.statistics import Interval, median_interval, paired_bootstrap, t_interval
from dlrm_mtl.training.loop import ArmResult

METRICS = ("ne", "auc", "calibration")
EXPLODED_NE = 2.0
"""Above this NE, twice that of a constant prediction, an arm's loss is reported as exploded (the paper's NEX)."""
ZERO = Interval(0.0, 0.0, 0.0)


def summarize_seed(seed: int, tasks: Sequence[str], arms: Mapping[str, ArmResult]) -> dict[str, Any]:
    """A seed's results as JSON values: metrics and windows of each arm, gains over the first arm with their paired
    bootstrap over evaluation rows."""
    control = next(iter(arms.values()))
    summary: dict[str, Any] = {"seed": seed, "arms": {}}
    for name, arm in arms.items():
        gains: list[Interval | None] = [ZERO] * len(tasks)
        average: Interval | None = ZERO
        if arm is not control:
            gains, average = _gains(control, arm, seed)
        summary["arms"][name] = {
            "qps": list(arm.qps),
            "skipped_steps": arm.skipped_steps,
            "rows_lost": arm.rows_lost,
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
    the paired bootstrap over evaluation rows. What a seed lacks because its predictions are not finite is None, and the
    seed is in ``exploded_seeds``, as is one with an NE above 2. QPS are pooled over seeds; changes are paired window by
    window. Skipped steps and lost rows are those of all seeds together.

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
                "skipped_steps": sum(seed["arms"][name]["skipped_steps"] for seed in seeds),
                "rows_lost": sum(seed["arms"][name]["rows_lost"] for seed in seeds),
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
                        "exploded_seeds": _exploded(
                            {seed["seed"]: seed["arms"][name]["tasks"][task]["ne"] for seed in seeds}
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


def _gains(control: ArmResult, arm: ArmResult, seed: int) -> tuple[list[Interval | None], Interval | None]:
    """Gains of each task and their average; None where an arm has no NE, because its predictions are not finite."""
    defined = [a.ne is not None and b.ne is not None for a, b in zip(control.metrics, arm.metrics, strict=True)]
    if not all(defined):
        kept = np.flatnonzero(defined)
        some = paired_bootstrap(control.sums[:, kept], arm.sums[:, kept], seed)[0] if len(kept) else []
        found = iter(some)
        return [next(found) if known else None for known in defined], None
    gains, average = paired_bootstrap(control.sums, arm.sums, seed)
    return list(gains), average


def _over_seeds(gains: Sequence[Mapping[str, float] | None]) -> dict[str, float] | None:
    """None if a seed has none: an average over the seeds that did not explode would be flattery."""
    known = [gain for gain in gains if gain is not None]
    if len(known) < len(gains):
        return None
    if len(known) == 1:
        return dict(known[0])
    return _mean_record(t_interval([gain["mean"] for gain in known]))


def _exploded(nes: Mapping[int, float | None]) -> list[int]:
    """Seeds whose NE exploded."""
    return [seed for seed, ne in nes.items() if ne is None or ne > EXPLODED_NE]


def _mean_record(interval: Interval | None) -> dict[str, float] | None:
    if interval is None:
        return None
    return {"mean": interval.center, "low": interval.low, "high": interval.high}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None
