"""Differences between the gains of a search's arms, paired by seed and row if a run's files allow it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dlrm_mtl.metrics.estimates import Estimates, combine, on_buckets
from dlrm_mtl.statistics.effect import LEVEL, Effect, student_quantile


class ArmGains(Protocol):
    """NE gains (%) of arms over the control on M tasks; task None stands for their average."""

    def mean(self, arm: str, task: int | None) -> float:
        """Mean gain over seeds."""

    def difference(self, arm: str, task: int | None, other: str, other_task: int | None) -> Effect:
        """An arm's gain on a task less another arm's gain on the same or another task."""

    def halves(self) -> "tuple[ArmGains, ArmGains] | None":
        """The gains on either half of the evaluation rows; None if rows were not kept."""


@dataclass(frozen=True)
class PairedGains:
    """Gains of arms with the same S seeds and evaluation rows."""

    by_seed: Mapping[str, Sequence[Estimates]]
    """By arm, one entry per seed; without buckets if seed-S.npz is missing."""
    shares: Sequence[float]
    """(M,) weights of the tasks in the average."""

    def mean(self, arm: str, task: int | None) -> float:
        return float(np.mean([self._of(estimates, task).values for estimates in self.by_seed[arm]]))

    def difference(self, arm: str, task: int | None, other: str, other_task: int | None) -> Effect:
        differences = [
            combine([1.0, -1.0], [self._of(mine, task), self._of(theirs, other_task)])
            for mine, theirs in zip(self.by_seed[arm], self.by_seed[other], strict=True)
        ]
        mean = combine([1 / len(differences)] * len(differences), differences)
        values = [float(difference.values[0]) for difference in differences]
        return Effect.over(values, float(mean.variance()[0]), int(mean.buckets()[0]))

    def halves(self) -> "tuple[PairedGains, PairedGains] | None":
        buckets = len(next(iter(self.by_seed.values()))[0].influence)
        if not buckets:
            return None
        # All rows of a cluster are in one bucket, so they are in one half.
        first = np.arange(buckets) % 2 == 0
        return self._on(first), self._on(~first)

    def _of(self, estimates: Estimates, task: int | None) -> Estimates:
        return estimates.weighted(self.shares if task is None else np.eye(len(self.shares))[task].tolist())

    def _on(self, buckets: npt.NDArray[np.bool_]) -> "PairedGains":
        by_seed = {arm: [on_buckets(each, buckets) for each in estimates] for arm, estimates in self.by_seed.items()}
        return PairedGains(by_seed, self.shares)


@dataclass(frozen=True)
class ReportedGains:
    """Gains from a comparison.json without its seeds: means and intervals of each arm over the control. The correlation
    of two arms' errors is unknown, so the error of their difference is taken as the largest possible: the sum."""

    gains: Mapping[str, Mapping[int | None, Mapping[str, Any]]]
    """By arm and task, in the form of comparison.json."""
    seeds: int

    def mean(self, arm: str, task: int | None) -> float:
        return float(self.gains[arm][task]["mean"])

    def difference(self, arm: str, task: int | None, other: str, other_task: int | None) -> Effect:
        mean = self.mean(arm, task) - self.mean(other, other_task)
        return Effect(mean, self._error(arm, task) + self._error(other, other_task), self.seeds - 1)

    def halves(self) -> None:
        return None

    def _error(self, arm: str, task: int | None) -> float:
        """Standard error of the mean over seeds."""
        gain = self.gains[arm][task]
        ends = gain.get("over_seeds") or gain
        return (ends["high"] - ends["low"]) / 2 / student_quantile(self.seeds - 1, (1 - LEVEL) / 2)
