"""Verdicts on many arms and tasks that share a control."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar

from dlrm_mtl.statistics.effect import LEVEL, Effect

Key = TypeVar("Key")

MARGIN = 0.05
"""Margin of equivalence: the NE gain in percent that the paper calls significant (section 5.3)."""

Verdict = Literal["gain", "loss", "equivalent", "inconclusive"]
"""Verdict on an arm's effect on a task or on average; ``equivalent``: within the margin on either side of 0."""


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number: the probability of rejecting any true null is at most the level (Holm 1979),
    whatever the dependence between them."""
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def judge(effects: Mapping[Key, Effect]) -> dict[Key, Verdict]:
    """A verdict on each effect of a family, by Holm's procedure for differences from 0, and again for equivalence.

    An effect that differs from 0 with certainty but is within the margin is ``equivalent``.
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
    """By arm, whether no task loses as much as the margin.

    An arm's claim needs to hold for every task (intersection-union test, Berger 1982); Holm's procedure over arms.
    """
    claims = [max(effect.p_above(-MARGIN) for effect in effects) for effects in arms.values()]
    return {key: p <= (1 - LEVEL) / 2 for key, p in zip(arms, holm(claims), strict=True)}
