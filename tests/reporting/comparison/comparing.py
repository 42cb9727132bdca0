"""Comparisons of three arms on two tasks, from simulated predictions."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dlrm_mtl.reporting.comparison import compare_seeds
from dlrm_mtl.reporting.seed_summary import summarize_seed
from dlrm_mtl.training.loop import ArmResult
from tests.reporting.results import TASKS, arm_result, simulate

ARMS = ("mean", "multibalance:beta=0.1", "sum")
BETTER = ARMS[1]
NOISES = (0.8, 0.3, 1.2)
QPS = ([100.0, 200.0, 300.0], [90.0, 190.0, 330.0], [100.0, 200.0, 300.0])
UNKNOWN: Mapping[str, float | None] = dict.fromkeys(TASKS)


def results(seed: int, qps: Sequence[Sequence[float]] = QPS) -> dict[str, ArmResult]:
    """A summary of another seed on the same rows."""
    predictions = simulate(3000, NOISES, models=seed)
    return {arm: arm_result(p, values) for arm, p, values in zip(ARMS, predictions, qps, strict=True)}


def summary(seed: int, qps: Sequence[Sequence[float]] = QPS) -> dict[str, Any]:
    return summarize_seed(seed, TASKS, results(seed, qps))


def compare(
    seeds: Sequence[dict[str, Any]], bayes: Mapping[str, float | None] = UNKNOWN, **options: Any
) -> dict[str, Any]:
    # Through files, as the entry point does.
    return compare_seeds(TASKS, [json.loads(json.dumps(seed, allow_nan=False)) for seed in seeds], bayes, **options)


def ends(record: Mapping[str, Any]) -> tuple[float, float]:
    return record["low"], record["high"]


def half(record: Mapping[str, Any]) -> float:
    return float(record["high"] - record["low"]) / 2
