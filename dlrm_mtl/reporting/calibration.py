"""Calibration of an arm on a task by seed, or the mean error of a regression. They are never averaged over seeds: 0.8
and 1.2 would average to 1."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def calibration_by_seed(seeds: Mapping[int, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean prediction / base rate with its interval over rows.

    Args:
        seeds: the task's record in each seed's seed-S.json.
    """
    return _by_seed("calibration", seeds)


def mean_error_by_seed(seeds: Mapping[int, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean prediction - mean label; as :func:`calibration_by_seed`."""
    return _by_seed("mean_error", seeds)


def farthest_from_one(calibrations: Sequence[float | None]) -> float | None:
    """The calibration farthest from 1 as a ratio, where 0.5 is as far as 2; None if any seed has none."""
    return _farthest(calibrations, lambda value: abs(math.log(value)) if value > 0 else math.inf)


def farthest_from_zero(errors: Sequence[float | None]) -> float | None:
    """The mean error with the largest size; None if any seed has none."""
    return _farthest(errors, abs)


def deciles_by_seed(seeds: Mapping[int, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows, mean prediction, and rate of positives or mean label, of each tenth of the rows, ordered by prediction."""
    return [{"seed": seed, "deciles": task["deciles"]} for seed, task in seeds.items() if task.get("deciles")]


def _by_seed(metric: str, seeds: Mapping[int, Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"seed": seed, metric: task[metric], **(task.get(f"{metric}_interval") or {"low": None, "high": None})}
        for seed, task in seeds.items()
    ]


def _farthest(values: Sequence[float | None], distance: Callable[[float], float]) -> float | None:
    there = [value for value in values if value is not None]
    return max(there, key=distance) if there and len(there) == len(values) else None
