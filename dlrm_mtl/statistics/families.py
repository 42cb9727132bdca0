"""Verdicts on many arms and tasks at once, which share a control."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar

from dlrm_mtl.statistics.effect import LEVEL, Effect

Key = TypeVar("Key")

MARGIN = 0.05
"""NE gain in percent from which the paper calls one significant (section 5.3): what is smaller makes no difference."""

Verdict = Literal["gain", "loss", "equivalent", "inconclusive"]
"""Of an arm on a task, or on average. ``equivalent``: within the margin, to either side of 0."""


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, so that all together reject a true null at most as often as one (Holm 1979).
    Holds however they depend on each other."""
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def judge(effects: Mapping[Key, Effect]) -> dict[Key, Verdict]:
    """A verdict on each effect of a family: Holm's procedure for differences from 0, and again for equivalence.

    What is both, a difference that is certain and too small to matter, is ``equivalent``.
    """
    different = dict(zip(effects, holm([effect.p_value() for effect in effects.values()]), strict=True))
    within = dict(zip(effects, holm([effect.p_within(MARGIN) for effect in effects.values()]), strict=True))
    verdicts: dict[Key, Verdict] = {}
    for key, effect in effects.items():
        if within[key] <= (1 - LEVEL) / 2:
            verdicts[key] = "equivalent"
        elif different[key] <= 1 - LEVEL:
            verdicts[key] = "gain" if effect.mean > 0 else "loss"
        else:
            verdicts[key] = "inconclusive"
    return verdicts


def lose_nothing(arms: Mapping[Key, Sequence[Effect]]) -> dict[Key, bool]:
    """Of each arm, from the effects on its tasks, whether no task loses as much as the margin.

    An arm's claim holds if it holds of every task (intersection-union test, Berger 1982); over arms by Holm's
    procedure.
    """
    claims = [max(effect.p_above(-MARGIN) for effect in effects) for effects in arms.values()]
    return {key: p <= (1 - LEVEL) / 2 for key, p in zip(arms, holm(claims), strict=True)}
