"""Where arms lie between average gain and the worst task's gain, and which of them no other arm dominates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dlrm_mtl.reporting.effects.gains import Gains
from dlrm_mtl.reporting.effects.over_seeds import effect_over_seeds
from dlrm_mtl.statistics.effect import LEVEL

FloatArray = npt.NDArray[np.float64]

DRAWS = 2000
"""Repetitions of the comparison with other seeds and rows."""
CERTAIN = (1 + LEVEL) / 2
"""Share of the draws in which an arm that is shown to be better is better."""


@dataclass(frozen=True)
class ArmGains:
    """NE gains (%) of P arms over the control with S seeds, paired by seed and evaluation row, on M tasks."""

    by_seed: Sequence[Mapping[str, Gains]]
    """S, each by arm; the control is one of them."""
    tasks: Sequence[str]
    shares: Sequence[float]
    """(M,) weights of the tasks in the average."""

    @property
    def arms(self) -> list[str]:
        """The arms whose gains are finite with every seed."""
        return [
            arm
            for arm in self.by_seed[0]
            if all(np.isfinite(seed[arm].metrics["ne"].values).all() for seed in self.by_seed)
        ]

    def points(self) -> dict[str, dict[str, Any]]:
        """A record for each of :attr:`arms`. An arm dominates another if its average and its worst task both gain more.
        The worst task is the one whose mean gain is least; chosen by the rows that judge it, it looks worse than it is.
        """
        values = np.array([[seed[arm].metrics["ne"].values for arm in self.arms] for seed in self.by_seed])  # (S, P, M)
        worst = values.mean(axis=0).argmin(axis=1)
        of_task = np.eye(len(self.tasks))
        weights = np.stack([np.tile(self.shares, (len(worst), 1)), of_task[worst]])  # (2, P, M)
        per_seed = np.einsum("spm,apm->sap", values, weights)
        on_front = _front(per_seed.mean(axis=0))
        draws = self._draw(per_seed, weights)
        shares_on_front = np.mean([_front(points) for points in draws], axis=0)
        return {
            arm: {
                "average": self._effect(arm, self.shares),
                "worst": {"task": self.tasks[worst[place]], **self._effect(arm, of_task[worst[place]])},
                "mean_of_each_seeds_worst": float(values[:, place].min(axis=1).mean()),
                "tasks": {task: self._effect(arm, of_task[column]) for column, task in enumerate(self.tasks)},
                "on_front": bool(on_front[place]),
                "share_on_front": float(shares_on_front[place]),
                "worse_than": self._better_arm(draws, place, np.flatnonzero(on_front)),
            }
            for place, arm in enumerate(self.arms)
        }

    def _better_arm(self, draws: FloatArray, place: int, front: npt.NDArray[np.int64]) -> str | None:
        """The arm of the front that dominates an arm in most draws; None if that may be chance."""
        shares = (draws[:, :, front] > draws[:, :, [place]]).all(axis=1).mean(axis=0)
        return self.arms[front[shares.argmax()]] if shares.max() >= CERTAIN else None

    def _draw(self, per_seed: FloatArray, weights: FloatArray) -> FloatArray:
        """(draws, 2, P) average and worst task's gain of repeated comparisons, by the errors that the intervals have:
        Student's over seeds, normal over rows. A draw is common to all arms, so that the control's noise cancels."""
        generator = np.random.default_rng(0)
        draws = np.tile(per_seed.mean(axis=0), (DRAWS, 1, 1))
        if freedom := len(per_seed) - 1:
            normal = generator.standard_normal((DRAWS, len(per_seed)))
            student = normal * np.sqrt(freedom / generator.chisquare(freedom, (DRAWS, 1)))
            errors = (per_seed - per_seed.mean(axis=0)) / np.sqrt(len(per_seed) * freedom)
            draws += np.einsum("ds,sap->dap", student, errors)
        influence = np.mean([[seed[arm].metrics["ne"].influence for arm in self.arms] for seed in self.by_seed], axis=0)
        of_rows = np.einsum("pkm,apm->kap", influence, weights)
        buckets = len(of_rows)
        normal = generator.standard_normal((DRAWS, buckets)) * np.sqrt(buckets / max(1, buckets - 1))
        return np.asarray(draws + np.tensordot(normal, of_rows, axes=1))

    def _effect(self, arm: str, shares: Sequence[float] | FloatArray) -> dict[str, float | None]:
        """The gain averaged over tasks by their shares, with its interval."""
        gains = [seed[arm] for seed in self.by_seed]
        values = [float(seed.metrics["ne"].values @ np.asarray(shares)) for seed in gains]
        effect = effect_over_seeds(values, gains, "ne", list(shares))
        interval = effect.interval()
        low, high = (interval.low, interval.high) if interval else (None, None)
        return {"mean": effect.mean, "low": low, "high": high}


def _front(points: FloatArray) -> npt.NDArray[np.bool_]:
    """(P,) whether no arm exceeds an arm in both coordinates.

    Args:
        points: (2, P)
    """
    reached = (points[:, None, :] <= points[:, :, None]).any(axis=0)
    return np.asarray(np.all(reached, axis=1))
