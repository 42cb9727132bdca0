"""comparison.json: the results of a comparison over its seeds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dlrm_mtl.reporting.calibration import (
    calibration_by_seed,
    deciles_by_seed,
    farthest_from_one,
    farthest_from_zero,
    mean_error_by_seed,
)
from dlrm_mtl.reporting.effects.arm import ArmSeeds
from dlrm_mtl.reporting.effects.gains import METRICS, REGRESSION_METRICS, Gains
from dlrm_mtl.reporting.effects.over_seeds import NOTHING, Covers, covers
from dlrm_mtl.reporting.effects.verdicts import NO_GAIN, ArmEffects, chance_range, describe_families, judged_gains
from dlrm_mtl.reporting.normalized_loss import gain_key, is_regression, kind_of, loss_of
from dlrm_mtl.statistics.speed import Change, change_percent
from dlrm_mtl.task_weights import share_weights

RATES = ("qps", "end_to_end_qps")
"""See :class:`dlrm_mtl.training.loop.ArmResult`."""
EXPLODED = 2.0
"""Above this normalized loss, twice that of a constant prediction, an arm's loss is reported as exploded (the paper's
NEX)."""
INTERVALS: dict[Covers | None, str] = {
    "seeds and rows": "for other seeds and other evaluation rows",
    "seeds": "for other seeds on these evaluation rows",
    "rows": "for these models on other evaluation rows",
    None: "not known",
}
INDEPENDENT_ROWS = "rows taken as independent"
"""Value of ``clusters`` when the data set names no cluster."""


def compare_seeds(
    tasks: Sequence[str],
    seeds: Sequence[Mapping[str, Any]],
    bayes_ne: Mapping[str, float | None],
    task_weights: Mapping[str, float] | None = None,
    planned_seeds: Sequence[int] | None = None,
    *,
    gains: Mapping[int, Mapping[str, Gains]] | None = None,
    clusters: str = INDEPENDENT_ROWS,
) -> dict[str, Any]:
    """The comparison over seeds; the first arm is the control.

    An arm's numbers are taken over the seeds that trained it. Gains have an interval for other seeds, one for other
    rows, and one for both (:class:`dlrm_mtl.statistics.effect.Effect`); verdicts are corrected for the number of arms
    and tasks (:mod:`dlrm_mtl.statistics.families`); an arm with one seed has none. Metrics are means over
    seeds, but for ``calibration`` and ``mean_error``: those of the seed where they are farthest from 1 and from 0. A
    value is None if a seed's predictions are not finite; ``exploded_seeds`` lists such seeds and those with an NE or
    NMSE above 2. Percentiles of QPS are over the windows of all seeds; changes are paired window by window
    (:mod:`dlrm_mtl.statistics.speed`). Skipped steps and lost rows are summed over seeds.

    Args:
        seeds: results of :func:`dlrm_mtl.reporting.seed_summary.summarize_seed`. If an arm was trained beside another
            run of the control, it has that run's results as ``control_qps``, ``control_end_to_end_qps`` and
            ``control_tasks``, and ``control_products`` if there are products; if it was trained by itself,
            ``trained_alone``.
        bayes_ne: NE of the true probabilities, for generated data.
        task_weights: each task's share of the average over tasks, which sum to 1; equal by default.
        planned_seeds: seeds that were planned when the first job began; by default those of ``seeds``.
        gains: from seed-S.npz, by seed and arm, over the control trained beside it. The intervals of an arm with
            several seeds cover other rows only if all its seeds are given.
        clusters: the column whose equal values mark rows that belong together.
    """
    names = list(dict.fromkeys(name for seed in seeds for name in seed["arms"]))
    control = names[0]
    shares = task_weights or share_weights((), tasks)
    weights = [shares[task] for task in tasks]
    with_arm = {name: [seed for seed in seeds if name in seed["arms"]] for name in names}
    over_seeds = {
        name: _arm_seeds(name, control, tasks, weights, own, gains or {})
        for name, own in with_arm.items()
        if name != control
    }
    effects = {name: arm.effects() for name, arm in over_seeds.items()}
    judged = judged_gains(effects)
    return {
        "control": control,
        "tasks": list(tasks),
        "bayes_ne": {task: value for task, value in bayes_ne.items() if value is not None},
        **({"training": seeds[0]["training"]} if "training" in seeds[0] else {}),
        "task_weights": dict(shares),
        "planned_seeds": sorted(seed["seed"] for seed in seeds) if planned_seeds is None else list(planned_seeds),
        "added_seeds": {},
        "reweighed": False,
        "clusters": clusters,
        "products": _evaluated_products(seeds[0]["arms"]),
        "evaluation": {task: evaluated_rows(seeds[0]["arms"][control]["tasks"][task]) for task in tasks},
        "intervals": describe_intervals(effects),
        "families": describe_families(effects),
        "chance_range": chance_range(effects, tasks),
        "arms": {
            name: _compare_arm(name, control, tasks, own, over_seeds.get(name), judged.get(name))
            for name, own in with_arm.items()
        },
    }


def describe_intervals(arms: Mapping[str, ArmEffects]) -> str:
    """What the intervals of gains cover, in words."""
    of_arms = [[effect for effect in arm.tasks.values() if effect] for arm in arms.values()]
    kinds = Counter(covers(effects[0]) for effects in of_arms if effects)
    return "; ".join(
        text if len(kinds) == 1 else f"of {kinds[kind]} arm{'s' * (kinds[kind] > 1)} {text}"
        for kind, text in INTERVALS.items()
        if kinds[kind]
    )


def _arm_seeds(
    name: str,
    control: str,
    tasks: Sequence[str],
    weights: Sequence[float],
    seeds: Sequence[Mapping[str, Any]],
    gains: Mapping[int, Mapping[str, Gains]],
) -> ArmSeeds:
    arms = [seed["arms"][name] for seed in seeds]
    controls = [seed["arms"][control] for seed in seeds]
    beside = [
        {kind: arm.get(f"control_{kind}", own.get(kind, {})) for kind in ("tasks", "products")}
        for own, arm in zip(controls, arms, strict=True)
    ]
    of_arm = [gains[seed["seed"]][name] for seed in seeds if name in gains.get(seed["seed"], {})]
    return ArmSeeds(tasks, weights, arms, beside, of_arm if len(of_arm) == len(seeds) else None)


def _compare_arm(
    name: str,
    control: str,
    tasks: Sequence[str],
    seeds: Sequence[Mapping[str, Any]],
    over_seeds: ArmSeeds | None,
    judged: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """``over_seeds`` and ``judged`` are None for the control."""
    by_seed = {seed["seed"]: seed["arms"][name] for seed in seeds}
    arms = list(by_seed.values())
    first = arms[0]["tasks"]
    return {
        "seeds": list(by_seed),
        "skipped_steps": sum(arm["skipped_steps"] for arm in arms),
        "rows_lost": sum(arm["rows_lost"] for arm in arms),
        **{rate: _qps(rate, name, control, seeds) for rate in RATES},
        "average_ne_gain_percent": judged["average_ne_gain_percent"] if judged else NO_GAIN,
        "loses_nothing": judged["loses_nothing"] if judged else None,
        "tasks": {
            task: {
                **_reached({seed: arm["tasks"][task] for seed, arm in by_seed.items()}),
                gain_key("ne", first[task]): judged["tasks"][task] if judged else NO_GAIN,
                **(
                    over_seeds.metric_gains(task, other_metrics(first[task]))
                    if over_seeds
                    else no_gains(other_metrics(first[task]), first[task])
                ),
            }
            for task in tasks
        },
        "segments": over_seeds.segments() if over_seeds else {},
        "products": _compare_products(by_seed, over_seeds),
    }


def _compare_products(arms: Mapping[int, Mapping[str, Any]], over_seeds: ArmSeeds | None) -> dict[str, Any]:
    """The products of tasks that an arm has, as tasks without verdicts. ``over_seeds`` is None for the control."""
    by_seed = {seed: arm.get("products", {}) for seed, arm in arms.items()}
    names = list(next(iter(by_seed.values())))
    if any(products.keys() != set(names) for products in by_seed.values()):
        return {}  # some seeds are of an earlier version
    metrics = ("ne", *other_metrics({}))
    return {
        name: {
            **_reached({seed: products[name] for seed, products in by_seed.items()}),
            **(over_seeds.product_gains(name, metrics) if over_seeds else no_gains(metrics, {})),
        }
        for name in names
    }


def other_metrics(task: Mapping[str, Any]) -> tuple[str, ...]:
    """The metrics of a task with gains beside that in NE or NMSE."""
    return ("relative_ne", *(REGRESSION_METRICS if is_regression(task) else METRICS))


def no_gains(metrics: Sequence[str], task: Mapping[str, Any]) -> dict[str, Any]:
    """The control's gains over itself in these metrics of a task."""
    return {gain_key(metric, task): NOTHING for metric in metrics}


def _reached(seeds: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """An arm's metrics on a task, over its seeds."""
    records = list(seeds.values())
    losses = {seed: loss_of(task) for seed, task in seeds.items()}
    if is_regression(records[0]):
        own = {
            **kind_of(records[0]),
            **{metric: _mean([task[metric] for task in records]) for metric in ("nmse", "mae", "xauc")},
            "mean_error": farthest_from_zero([task["mean_error"] for task in records]),
            "mean_error_by_seed": mean_error_by_seed(seeds),
        }
    else:
        own = {
            **{metric: _mean([task.get(metric) for task in records]) for metric in ("ne", *METRICS)},
            "calibration": farthest_from_one([task["calibration"] for task in records]),
            "calibration_by_seed": calibration_by_seed(seeds),
            "tied_pairs": max((task.get("tied_pairs") or 0.0 for task in records), default=0.0),
        }
    return {
        **own,
        "deciles_by_seed": deciles_by_seed(seeds),
        "exploded_seeds": [seed for seed, loss in losses.items() if loss is None or loss > EXPLODED],
    }


def evaluated_rows(task: Mapping[str, Any]) -> dict[str, Any]:
    """Counts of the rows on which a task was evaluated."""
    return {key: task.get(key) for key in ("rows", "positives", "users", "users_share", "rows_share")}


def _evaluated_products(arms: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The same by product of tasks; the rows are those of any arm that has it."""
    products = {name: record for arm in arms.values() for name, record in arm.get("products", {}).items()}
    return {name: evaluated_rows(record) for name, record in products.items()}


def _qps(rate: str, name: str, control: str, seeds: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """None if no window was timed. The change of an arm that was trained alone is that of each seed's median."""
    arms = [(seed["arms"][control], seed["arms"][name]) for seed in seeds]
    own = [arm.get(rate, ()) for _, arm in arms]
    baseline = [arm.get(f"control_{rate}", of_control.get(rate, ())) for of_control, arm in arms]
    windows = [value for of_seed in own for value in of_seed]
    if not windows:
        return None
    if any(arm.get("trained_alone") for _, arm in arms):
        baseline, own = ([[float(np.median(timed))] for timed in each if timed] for each in (baseline, own))
    p10, median, p90 = np.quantile(windows, [0.1, 0.5, 0.9]).tolist()
    change = NO_CHANGE if name == control else _change_record(change_percent(baseline, own))
    return {"median": median, "p10": p10, "p90": p90, "windows": len(windows), "change_percent": change}


NO_CHANGE = {"median": 0.0, "low": 0.0, "high": 0.0}
"""The control's QPS against itself."""


def _change_record(change: Change) -> dict[str, float | None]:
    interval = change.interval
    return {
        "median": change.median,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    """None if any seed has no value."""
    finite = [value for value in values if value is not None]
    return float(np.mean(finite)) if len(finite) == len(values) else None
