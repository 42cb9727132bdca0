"""Calibration of an arm on a task by seed. It is never averaged over seeds: 0.8 and 1.2 would average to 1."""

import math
from collections.abc import Mapping, Sequence
from typing import Any


def calibration_by_seed(seeds: Mapping[int, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean prediction / base rate with its interval over rows.

    Args:
        seeds: the task's record in each seed's seed-S.json.
    """
    return [
        {
            "seed": seed,
            "calibration": task["calibration"],
            **(task.get("calibration_interval") or {"low": None, "high": None}),
        }
        for seed, task in seeds.items()
    ]


def farthest_from_one(calibrations: Sequence[float | None]) -> float | None:
    """The calibration farthest from 1 as a ratio, where 0.5 is as far as 2; None if any seed has none."""
    finite = [value for value in calibrations if value is not None]
    if len(finite) < len(calibrations):
        return None
    return max(finite, key=lambda value: abs(math.log(value)) if value > 0 else math.inf)


def deciles_by_seed(seeds: Mapping[int, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows, mean prediction and rate of positives of each tenth of the rows, ordered by prediction."""
    return [{"seed": seed, "deciles": task["deciles"]} for seed, task in seeds.items() if task.get("deciles")]
