"""Gains of one arm over its control, taken over seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlrm_mtl.reporting.effects.gains import LOWER_IS_BETTER, Gains
from dlrm_mtl.reporting.effects.over_seeds import effect_over_seeds, effect_record, recorded_effect
from dlrm_mtl.reporting.effects.verdicts import ArmEffects
from dlrm_mtl.reporting.normalized_loss import gain_key, gain_of, kind_of, loss_of
from dlrm_mtl.statistics.effect import Effect

Record = Mapping[str, Any]


@dataclass(frozen=True)
class ArmSeeds:
    """An arm with S seeds; each list has one entry per seed."""

    tasks: Sequence[str]
    weights: Sequence[float]
    """(M,) each task's share of the average; they sum to 1."""
    arm: Sequence[Record]
    """The arm's record in seed-S.json."""
    control: Sequence[Record]
    """``tasks`` and ``products`` of the control trained beside it."""
    gains: Sequence[Gains] | None
    """Gains with their errors over rows; None if any seed lacks them."""

    def effects(self) -> ArmEffects:
        """Gains in the normalized loss; None if any seed has none. An effect over the remaining seeds would be too
        optimistic."""
        tasks = {task: self._effect("ne", task) for task in self.tasks}
        if any(effect is None for effect in tasks.values()):
            return ArmEffects(None, tasks)
        per_seed = np.array([self._values("ne", task) for task in self.tasks]).T @ np.asarray(self.weights)
        average = effect_over_seeds(per_seed.tolist(), self.gains, "ne", self.weights)
        if not average.has_error and len(set(self.weights)) == 1:
            average = recorded_effect(self.arm[0]["average_ne_gain_percent"], seeds=1)
        return ArmEffects(average, tasks)

    def metric_gains(self, task: str, metrics: Sequence[str]) -> dict[str, Any]:
        """``METRIC_gain_percent`` by metric; None if any seed has none."""
        return {
            gain_key(metric, self.arm[0]["tasks"][task]): effect_record(effect) if effect else None
            for metric in metrics
            for effect in [self._effect(metric, task)]
        }

    def product_gains(self, product: str, metrics: Sequence[str]) -> dict[str, Any]:
        """:meth:`metric_gains` of a product of tasks."""
        names, records = list(self.arm[0]["products"]), [of_seed["products"] for of_seed in self.control]
        if not all(records):
            return dict.fromkeys((f"{metric}_gain_percent" for metric in metrics), None)
        gains = [of_seed.products for of_seed in self.gains or () if of_seed.products]
        products = ArmSeeds(
            names,
            [1 / len(names)] * len(names),
            [{"tasks": arm["products"]} for arm in self.arm],
            [{"tasks": record} for record in records],
            gains if len(gains) == len(self.arm) else None,
        )
        return products.metric_gains(product, metrics)

    def segments(self) -> dict[str, Any]:
        """Gains in the normalized loss by segment and value, without verdicts since there are many of them."""
        if self.gains is None:
            return {}
        return {
            segment: {value: self._in_segment(segment, value) for value in values}
            for segment, values in self.gains[0].segments.items()
        }

    def _in_segment(self, segment: str, value: str) -> dict[str, Any]:
        parts = [of_seed.segments[segment][value] for of_seed in self.gains or ()]
        gains = [part.gains for part in parts]
        losses = np.array([of_seed.metrics["ne"].values for of_seed in gains])  # (S, M)
        record: dict[str, Any] = {"rows": parts[0].rows}
        record["tasks"] = {
            task: {
                **kind_of(self.arm[0]["tasks"][task]),
                gain_key("ne", self.arm[0]["tasks"][task]): self._of_values(
                    losses[:, column].tolist(), gains, self._only(column)
                ),
            }
            for column, task in enumerate(self.tasks)
        }
        average = (losses @ np.asarray(self.weights)).tolist()
        return {**record, "average_ne_gain_percent": self._of_values(average, gains, self.weights)}

    def _of_values(self, values: Sequence[float], gains: Sequence[Gains], shares: Sequence[float]) -> Any:
        if not np.isfinite(values).all():
            return None
        return effect_record(effect_over_seeds(values, gains, "ne", shares))

    def _effect(self, metric: str, task: str) -> Effect | None:
        values = self._values(metric, task)
        if None in values:
            return None
        finite = [value for value in values if value is not None]
        effect = effect_over_seeds(finite, self.gains, metric, self._only(self.tasks.index(task)))
        if metric == "ne" and not effect.has_error:
            return recorded_effect(gain_of(self.arm[0]["tasks"][task]), seeds=1)
        return effect

    def _values(self, metric: str, task: str) -> list[float | None]:
        """The gain of each seed."""
        return [
            _gain(metric, control["tasks"][task], arm["tasks"][task])
            for control, arm in zip(self.control, self.arm, strict=True)
        ]

    def _only(self, column: int) -> list[float]:
        return [float(index == column) for index in range(len(self.tasks))]


def _gain(metric: str, control: Record, arm: Record) -> float | None:
    """In percent; positive if the arm is better."""
    if metric in ("ne", "relative_ne"):
        gain, before = gain_of(arm), loss_of(control)
        if gain is None or before is None:
            return None
        return float(gain["mean"] if metric == "ne" else gain["mean"] / before)
    before, after = control.get(metric), arm.get(metric)
    if before is None or after is None:
        return None
    return float(100 * (before - after if metric in LOWER_IS_BETTER else after - before))
