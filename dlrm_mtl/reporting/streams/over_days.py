"""The results of a stream over its days."""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

import numpy as np
import numpy.typing as npt

from dlrm_mtl.reporting.calibration import farthest_from_one, farthest_from_zero
from dlrm_mtl.reporting.comparison import EXPLODED
from dlrm_mtl.reporting.effects.over_seeds import effect_record
from dlrm_mtl.reporting.effects.verdicts import NO_GAIN, ArmEffects, describe_families, judged_gains
from dlrm_mtl.reporting.normalized_loss import gain_key, is_regression, key_of, kind_of
from dlrm_mtl.statistics.effect import Effect
from dlrm_mtl.statistics.over_days import change_per_day, mean_over_days
from dlrm_mtl.task_weights import share_weights

Record = Mapping[str, Any]
Numbered = tuple[int, Record]
"""A day with its number, from 0."""


def summarize_days(days: Sequence[Record], arms: Sequence[str], task_weights: Sequence[str] = ()) -> dict[str, Any]:
    """The part of stream.json over all days, see docs/streaming.md; the first arm is the control.

    Args:
        days: entries of ``days``, in order.
        task_weights: ``TASK=WEIGHT`` for every task of any day, also of days to come, for averages; equal by default.
    """
    tasks = list(dict.fromkeys(task for day in days for task in day["tasks"]))
    own_weights = [text for text in task_weights if text.rpartition("=")[0] in tasks]
    weights = share_weights(own_weights, tasks)
    trained = [(number, day) for number, day in enumerate(days) if day["skipped"] is None]
    evaluated = [(number, day) for number, day in trained if day["evaluated"]]
    gains = {arm: _Gains(arm, evaluated, weights) for arm in arms[1:]}
    effects = {arm: own.means(tasks) for arm, own in gains.items()}
    judged = judged_gains(effects)
    return {
        "tasks": tasks,
        "task_weights": weights,
        "trained_days": len(trained),
        "evaluated_days": len(evaluated),
        "skipped_days": len(days) - len(trained),
        "families": describe_families(effects),
        "arms": {
            arm: {
                **_speed(arm, arms[0], trained),
                "average_ne_gain_percent": _named(judged[arm]["average_ne_gain_percent"] if arm in judged else NO_GAIN),
                "average_ne_gain_change_per_day": gains[arm].change() if arm in gains else None,
                "loses_nothing": judged[arm]["loses_nothing"] if arm in judged else None,
                "tasks": {
                    task: {
                        **reached,
                        gain_key("ne", reached): _named(judged[arm]["tasks"][task] if arm in judged else NO_GAIN),
                        f"{key_of('ne', reached)}_gain_change_per_day": gains[arm].change(task)
                        if arm in gains
                        else None,
                    }
                    for task in tasks
                    for reached in [_reached(arm, task, trained)]
                },
            }
            for arm in arms
        },
    }


class _Gains:
    """NE gains of an arm by day and seed.

    Args:
        days: on which a task was evaluated.
        weights: of the tasks, in averages.
    """

    def __init__(self, arm: str, days: Sequence[Numbered], weights: Mapping[str, float]) -> None:
        self._days = days
        self._weights = weights
        self._gains = {
            number: {
                task: [one[gain_key("ne", own)] for one in own["by_seed"]]
                for task in day["evaluated"]
                for own in [_task(day, arm, task)]
            }
            for number, day in days
        }

    def means(self, tasks: Sequence[str]) -> ArmEffects:
        """Means over the days on which a task was evaluated; None where a gain is missing, as a loss exploded, and
        without such a day."""
        return ArmEffects(_mean_effect(self._averages()), {task: _mean_effect(self._of_task(task)) for task in tasks})

    def change(self, task: str | None = None) -> dict[str, Any] | None:
        """The change per day of the gain on a task, or of the average gain; of the latter None if not all days have the
        same tasks."""
        if task is None and len({tuple(gains) for gains in self._gains.values()}) > 1:
            return None
        gains = self._averages() if task is None else self._of_task(task)
        values = _array(gains)
        effect = None if values is None else change_per_day(values, np.array(list(gains)))
        return None if effect is None else _named(effect_record(effect))

    def _of_task(self, task: str) -> dict[int, list[float | None]]:
        return {number: gains[task] for number, gains in self._gains.items() if task in gains}

    def _averages(self) -> dict[int, list[float | None]]:
        """Weighted averages over the tasks that were evaluated on a day."""
        averages: dict[int, list[float | None]] = {}
        for number, gains in self._gains.items():
            weights = np.array([self._weights[task] for task in gains])
            values = _array(gains)
            seeds = len(next(iter(gains.values())))
            averages[number] = [None] * seeds if values is None else (values @ weights / weights.sum()).tolist()
        return averages


def _array(gains: Mapping[Any, Sequence[float | None]]) -> npt.NDArray[np.float64] | None:
    """(S, D) gains from S gains of each of D days, or tasks; None if one is missing, or there are none."""
    if not gains or any(None in of_seeds for of_seeds in gains.values()):
        return None
    return np.array(list(gains.values()), dtype=np.float64).T


def _mean_effect(gains: Mapping[int, Sequence[float | None]]) -> Effect | None:
    values = _array(gains)
    return None if values is None else mean_over_days(values)


def _named(gain: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The record of an effect whose errors are over days, not over rows."""
    if gain is None:
        return None
    covers = gain["covers"] and gain["covers"].replace("rows", "days")
    return {"over_days" if key == "over_rows" else key: value for key, value in gain.items()} | {"covers": covers}


def _speed(arm: str, control: str, days: Sequence[Numbered]) -> dict[str, Any]:
    """The median over days of the median QPS; its change against the control, by the medians of each day."""
    pairs = [(own, day["arms"][control]["qps"]) for _, day in days if (own := day["arms"][arm]["qps"]) is not None]
    changes = [100 * (own / other - 1) for own, other in pairs if other is not None]
    is_compared = arm != control and changes
    return {
        "qps": median(own for own, _ in pairs) if pairs else None,
        "qps_change_percent": _named(effect_record(mean_over_days(np.array([changes])))) if is_compared else None,
    }


def _reached(arm: str, task: str, days: Sequence[Numbered]) -> dict[str, Any]:
    """The metrics of an arm on a task: NE and calibration, or NMSE and mean error, of all evaluated rows together,
    the means of the others over the days on which they are defined."""
    there = [day for _, day in days if task in day["evaluated"]]
    records = [_task(day, arm, task) for day in there]
    exploded = [day["name"] for day, record in zip(there, records, strict=True) if _has_exploded(record)]
    counts = [day["evaluation"][task] for day in there]
    by_seed = list(zip(*(record["by_seed"] for record in records), strict=True))
    weights = [_task(day, arm, task)["task_weight"] for _, day in days if task in day["tasks"]]
    if records and is_regression(records[0]):
        errors = [_pooled_mean_error(counts, of_days) for of_days in by_seed]
        own = {
            **kind_of(records[0]),
            "nmse": _over_seeds([_pooled_nmse(counts, of_days) for of_days in by_seed], fmean),
            "mean_error": _over_seeds(errors, farthest_from_zero),
            **{key: _mean([record[key] for record in records]) for key in ("mae", "xauc")},
        }
    else:
        ratios = [_pooled_calibration(counts, of_days) for of_days in by_seed]
        own = {
            "ne": _over_seeds([_pooled_ne(counts, of_days) for of_days in by_seed], fmean),
            "calibration": _over_seeds(ratios, farthest_from_one),
            **{key: _mean([record[key] for record in records]) for key in ("recalibrated_ne", "auc", "gauc")},
        }
    return {"days": len(there), "exploded_days": exploded, **own, "task_weight": _mean(weights)}


def _task(day: Record, arm: str, task: str) -> Record:
    record: Record = day["arms"][arm]["tasks"][task]
    return record


def _has_exploded(task: Record) -> bool:
    losses = [one[key_of("ne", task)] for one in task["by_seed"]]
    return any(loss is None or loss > EXPLODED for loss in losses)


def _pooled_ne(counts: Sequence[Record], days: Sequence[Record]) -> float | None:
    """Log loss of all rows / entropy of their base rate."""
    if any(day["log_loss"] is None for day in days):
        return None
    weights = [_weight(of_day) for of_day in counts]
    rate = sum(map(_positive_weight, counts)) / sum(weights)
    entropy = -rate * math.log(rate) - (1 - rate) * math.log1p(-rate)
    loss = sum(weight * day["log_loss"] for weight, day in zip(weights, days, strict=True))
    return float(loss / sum(weights) / entropy)


def _pooled_calibration(counts: Sequence[Record], days: Sequence[Record]) -> float | None:
    """Sum of predictions / positives."""
    if any(day["calibration"] is None for day in days):
        return None
    positives = [_positive_weight(of_day) for of_day in counts]
    predicted = sum(number * day["calibration"] for number, day in zip(positives, days, strict=True))
    return float(predicted / sum(positives))


def _pooled_nmse(counts: Sequence[Record], days: Sequence[Record]) -> float | None:
    """Squared error of all rows / that of their mean label."""
    if any(day["squared_error"] is None for day in days):
        return None
    weights = [_weight(of_day) for of_day in counts]
    means = np.array([of_day["label_mean"] for of_day in counts])
    mean = np.average(means, weights=weights)
    variance = np.average([of_day["label_variance"] for of_day in counts] + np.square(means - mean), weights=weights)
    return float(np.average([day["squared_error"] for day in days], weights=weights) / variance)


def _pooled_mean_error(counts: Sequence[Record], days: Sequence[Record]) -> float | None:
    """Mean prediction - mean label of all rows."""
    if any(day["mean_error"] is None for day in days):
        return None
    return float(np.average([day["mean_error"] for day in days], weights=[_weight(of_day) for of_day in counts]))


def _weight(rows: Record) -> float:
    """Sum of the rows' weights, each 1 if it is not recorded."""
    return float(rows.get("weight", rows["rows"]))


def _positive_weight(rows: Record) -> float:
    return float(rows.get("positive_weight", rows["positives"]))


def _over_seeds(values: Sequence[float | None], combine: Callable[[Sequence[float]], float | None]) -> float | None:
    """None if any seed has no value, or there is none."""
    there = [value for value in values if value is not None]
    return combine(there) if there and len(there) == len(values) else None


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean of those that there are."""
    there = [value for value in values if value is not None]
    return fmean(there) if there else None
