"""Completes a comparison.json of an earlier version; verdicts follow from its intervals."""

from collections.abc import Mapping
from typing import Any

from dlrm_mtl.reporting.comparison import INDEPENDENT_ROWS, RATES, describe_intervals, no_gains, other_metrics
from dlrm_mtl.reporting.effects.gains import METRICS
from dlrm_mtl.reporting.effects.over_seeds import recorded_effect
from dlrm_mtl.reporting.effects.verdicts import NO_GAIN, ArmEffects, chance_range, describe_families, judged_gains
from dlrm_mtl.statistics.effect import Effect
from dlrm_mtl.statistics.speed import FEWEST_WINDOWS
from dlrm_mtl.task_weights import share_weights

Record = Mapping[str, Any]


def complete(comparison: Record) -> Record:
    """The comparison in this version's form; unchanged if it has that form already.

    With several seeds, earlier versions kept neither the error over rows nor the median QPS of each seed. So intervals
    cover other seeds on the same rows only, and changes of QPS have no interval.
    """
    if "families" in comparison:
        return comparison
    tasks, control = comparison["tasks"], comparison["control"]
    effects = {name: _effects(arm) for name, arm in comparison["arms"].items() if name != control}
    judged = judged_gains(effects)
    return {
        **comparison,
        "task_weights": comparison.get("task_weights", share_weights((), tasks)),
        "planned_seeds": _planned(comparison),
        "added_seeds": {},
        "reweighed": False,
        "clusters": INDEPENDENT_ROWS,
        "evaluation": {},
        "intervals": describe_intervals(effects),
        "families": describe_families(effects),
        "chance_range": chance_range(effects, tasks),
        "arms": {name: _arm(arm, judged.get(name)) for name, arm in comparison["arms"].items()},
    }


def _planned(comparison: Record) -> list[int]:
    """The planned seeds; where they were not kept, the trained ones."""
    trained = {seed for arm in comparison["arms"].values() for seed in arm["seeds"]}
    return list(comparison.get("planned_seeds") or sorted(trained))


def _effects(arm: Record) -> ArmEffects:
    seeds = len(arm["seeds"])

    def effect(gain: Record | None) -> Effect | None:
        return None if gain is None else recorded_effect(gain, seeds)

    tasks = {task: effect(record["ne_gain_percent"]) for task, record in arm["tasks"].items()}
    return ArmEffects(effect(arm["average_ne_gain_percent"]), tasks)


def _arm(arm: Record, judged: Record | None) -> Record:
    """``judged`` is None for the control."""
    no_others: Record = no_gains(other_metrics({}), {})
    if judged is not None:
        no_others = dict.fromkeys(no_others)
    return {
        **arm,
        **{rate: _rate(arm[rate], len(arm["seeds"]), judged is None) for rate in RATES if arm.get(rate)},
        "average_ne_gain_percent": judged["average_ne_gain_percent"] if judged else NO_GAIN,
        "loses_nothing": judged["loses_nothing"] if judged else None,
        "segments": {},
        "tasks": {
            task: {
                **dict.fromkeys(METRICS),
                "calibration_by_seed": [],
                "deciles_by_seed": [],
                "tied_pairs": None,
                "exploded_seeds": [],
                **record,
                "ne_gain_percent": judged["tasks"][task] if judged else NO_GAIN,
                **no_others,
            }
            for task, record in arm["tasks"].items()
        },
    }


def _rate(rate: Record, seeds: int, of_control: bool) -> Record:
    if of_control or (seeds == 1 and rate["windows"] >= FEWEST_WINDOWS):
        return rate
    return {**rate, "change_percent": {**rate["change_percent"], "low": None, "high": None}}
