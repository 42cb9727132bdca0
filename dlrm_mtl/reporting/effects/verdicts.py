"""Verdicts of a comparison, corrected for the number of its arms and tasks."""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from dlrm_mtl.reporting.effects.over_seeds import NOTHING, effect_record
from dlrm_mtl.statistics.chance import by_chance
from dlrm_mtl.statistics.effect import LEVEL, Effect
from dlrm_mtl.statistics.families import MARGIN, Verdict, holm, judge, lose_nothing

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class ArmEffects:
    """Gains (%) in the normalized loss of an arm that is not the control; None if any seed has none."""

    average: Effect | None
    """Weighted average over tasks."""
    tasks: Mapping[str, Effect | None]


@dataclass(frozen=True)
class Judgement:
    """The verdict on one effect, with its p-values."""

    p: float | None = None
    """Two-sided p-value of no difference; None without an interval."""
    p_holm: float | None = None
    """The same, adjusted for the number of effects in its family; None without a verdict."""
    verdict: Verdict | None = None
    """None for the control, and with a single seed, which compares one pair of models only."""


def judged_gains(arms: Mapping[str, ArmEffects]) -> dict[str, dict[str, Any]]:
    """By arm: ``average_ne_gain_percent``, ``loses_nothing``, and the gains of ``tasks``."""
    averages = _judge({arm: effects.average for arm, effects in arms.items()})
    of_tasks = _judge({(arm, task): effect for arm, own in arms.items() for task, effect in own.tasks.items()})
    claims = lose_nothing(_with_claim(arms))
    return {
        arm: {
            "average_ne_gain_percent": judged_record(effects.average, averages[arm]),
            "loses_nothing": claims.get(arm),
            "tasks": {task: judged_record(effect, of_tasks[arm, task]) for task, effect in effects.tasks.items()},
        }
        for arm, effects in arms.items()
    }


def judged_record(effect: Effect | None, judgement: Judgement) -> dict[str, Any] | None:
    """A gain in the form of comparison.json."""
    return None if effect is None else {**effect_record(effect), **asdict(judgement)}


NO_GAIN = {**NOTHING, **asdict(Judgement())}
"""The control's gain over itself."""


def describe_families(arms: Mapping[str, ArmEffects]) -> dict[str, Any]:
    """The procedure of the verdicts, and how many effects each family has."""
    return {
        "procedure": "Holm",
        "level": 1 - LEVEL,
        "margin": MARGIN,
        "averages": sum(map(_has_verdict, (own.average for own in arms.values()))),
        "arms_and_tasks": sum(map(_has_verdict, _of_all_tasks(arms))),
        "no_task_loses": len(_with_claim(arms)),
    }


def chance_range(arms: Mapping[str, ArmEffects], tasks: Iterable[str]) -> dict[str, Any]:
    """How many intervals of arms and tasks exclude 0, and how many would by chance if all arms equalled the control."""
    chance = by_chance([[effect for own in arms.values() if (effect := own.tasks[task])] for task in tasks])
    intervals = [interval for effect in _of_all_tasks(arms) if effect and (interval := effect.interval())]
    return {
        "exclude_zero": sum(interval.low > 0 or interval.high < 0 for interval in intervals),
        "intervals": chance.intervals,
        "low": chance.low,
        "high": chance.high,
        "at_least_one": chance.at_least_one,
    }


def _judge(effects: Mapping[Key, Effect | None]) -> dict[Key, Judgement]:
    """Judges the effects that can have a verdict as one family."""
    family = {key: effect for key, effect in effects.items() if effect and _has_verdict(effect)}
    verdicts = judge(family)
    adjusted = dict(zip(family, holm([effect.p_value() for effect in family.values()]), strict=True))
    return {
        key: Judgement(effect.p_value() if effect and effect.has_error else None, adjusted.get(key), verdicts.get(key))
        for key, effect in effects.items()
    }


def _has_verdict(effect: Effect | None) -> bool:
    return effect is not None and effect.seeds_freedom > 0


def _with_claim(arms: Mapping[str, ArmEffects]) -> dict[str, list[Effect]]:
    """Effects by arm, for arms whose tasks all can have a verdict."""
    measured = {arm: [effect for effect in own.tasks.values() if effect] for arm, own in arms.items()}
    return {
        arm: effects
        for arm, effects in measured.items()
        if len(effects) == len(arms[arm].tasks) and all(map(_has_verdict, effects))
    }


def _of_all_tasks(arms: Mapping[str, ArmEffects]) -> list[Effect | None]:
    return [effect for own in arms.values() for effect in own.tasks.values()]
