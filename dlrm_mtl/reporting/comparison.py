"""comparison.json: what a comparison found, over its seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dlrm_mtl.reporting.statistics import mean_record, median_interval, t_interval
from dlrm_mtl.task_weights import share_weights

METRICS = ("ne", "auc", "calibration")
RATES = ("qps", "end_to_end_qps")
"""See :class:`dlrm_mtl.training.loop.ArmResult`."""
EXPLODED_NE = 2.0
"""Above this NE, twice that of a constant prediction, an arm's loss is reported as exploded (the paper's NEX)."""


def compare_seeds(
    tasks: Sequence[str],
    seeds: Sequence[Mapping[str, Any]],
    bayes_ne: Mapping[str, float | None],
    task_weights: Mapping[str, float] | None = None,
    planned_seeds: Sequence[int] | None = None,
) -> dict[str, Any]:
    """The comparison over seeds; the first arm is the control.

    An arm's numbers are over the seeds that have it. NE, AUC and calibration are means over seeds. Intervals of NE
    gains are Student's over seeds, or, of a single seed, the paired bootstrap over evaluation rows. What a seed lacks
    because its predictions are not finite is None, and the seed is in ``exploded_seeds``, as is one with an NE above 2.
    QPS are pooled over seeds; changes are paired window by window. Skipped steps and lost rows are those of all seeds
    together.

    Args:
        seeds: results of :func:`dlrm_mtl.reporting.seed_summary.summarize_seed`. An arm may have ``control_qps`` and
            ``control_end_to_end_qps``, the windows of the control that was trained beside it, if that is another than
            the control that is here.
        bayes_ne: NE of the true probabilities, for tasks where they are known.
        task_weights: each task's share of the average over tasks, together 1; by default equal ones.
        planned_seeds: those that were to be trained when the first job began; by default these.
    """
    names = list(dict.fromkeys(name for seed in seeds for name in seed["arms"]))
    control = names[0]
    with_arm = {name: [seed for seed in seeds if name in seed["arms"]] for name in names}
    return {
        "control": control,
        "tasks": list(tasks),
        "bayes_ne": {task: value for task, value in bayes_ne.items() if value is not None},
        **({"training": seeds[0]["training"]} if "training" in seeds[0] else {}),
        "task_weights": dict(task_weights or share_weights((), tasks)),
        "planned_seeds": sorted(seed["seed"] for seed in seeds) if planned_seeds is None else list(planned_seeds),
        "intervals": _kind_of_intervals([len(own) for own in with_arm.values()]),
        "arms": {name: _compare_arm(name, control, tasks, own) for name, own in with_arm.items()},
    }


def _compare_arm(name: str, control: str, tasks: Sequence[str], seeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found = {seed["seed"]: seed["arms"][name] for seed in seeds}
    arms = list(found.values())
    return {
        "seeds": list(found),
        "skipped_steps": sum(arm["skipped_steps"] for arm in arms),
        "rows_lost": sum(arm["rows_lost"] for arm in arms),
        **{rate: _qps(*_windows(rate, name, control, seeds)) for rate in RATES},
        "average_ne_gain_percent": _over_seeds([arm["average_ne_gain_percent"] for arm in arms]),
        "tasks": {
            task: {
                **{key: _mean([arm["tasks"][task][key] for arm in arms]) for key in METRICS},
                "ne_gain_percent": _over_seeds([arm["tasks"][task]["ne_gain_percent"] for arm in arms]),
                "exploded_seeds": _exploded({seed: arm["tasks"][task]["ne"] for seed, arm in found.items()}),
            }
            for task in tasks
        },
    }


def _kind_of_intervals(seeds: Sequence[int]) -> str:
    """What the intervals of arms with these numbers of seeds are."""
    if min(seeds) > 1:
        return "t over seeds"
    bootstrap = "paired bootstrap over evaluation rows"
    return bootstrap if max(seeds) == 1 else f"t over seeds; of arms with one seed, {bootstrap}"


def _windows(
    rate: str, name: str, control: str, seeds: Sequence[Mapping[str, Any]]
) -> tuple[list[Sequence[float]], list[Sequence[float]]]:
    """The windows of the control and of an arm, by seed; none where a seed has no such rate."""
    arms = [(seed["arms"][control], seed["arms"][name]) for seed in seeds]
    baseline = [arm.get(f"control_{rate}", of_control.get(rate, ())) for of_control, arm in arms]
    return baseline, [arm.get(rate, ()) for _, arm in arms]


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


def _over_seeds(gains: Sequence[Mapping[str, float] | None]) -> dict[str, float] | None:
    """None if a seed has none: an average over the seeds that did not explode would be flattery."""
    known = [gain for gain in gains if gain is not None]
    if len(known) < len(gains):
        return None
    if len(known) == 1:
        return dict(known[0])
    return mean_record(t_interval([gain["mean"] for gain in known]))


def _exploded(nes: Mapping[int, float | None]) -> list[int]:
    """Seeds whose NE exploded."""
    return [seed for seed, ne in nes.items() if ne is None or ne > EXPLODED_NE]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None
