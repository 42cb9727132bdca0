"""seed-S.json: what training gave with one seed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from dlrm_mtl.metrics.bucket_sums import normalized_entropy
from dlrm_mtl.reporting.statistics import REPLICATES, FloatArray, Interval, mean_record, percentile_interval
from dlrm_mtl.training.loop import ArmResult
from dlrm_mtl.training_length import TrainingLength

ZERO = Interval(0.0, 0.0, 0.0)


def summarize_seed(
    seed: int, tasks: Sequence[str], arms: Mapping[str, ArmResult], length: TrainingLength | None = None
) -> dict[str, Any]:
    """A seed's results as JSON values: metrics and windows of each arm, gains over the first arm with their paired
    bootstrap over evaluation rows."""
    control = next(iter(arms.values()))
    summary: dict[str, Any] = {"seed": seed, **({"training": length.as_json()} if length else {}), "arms": {}}
    for name, arm in arms.items():
        gains: list[Interval | None] = [ZERO] * len(tasks)
        average: Interval | None = ZERO
        if arm is not control:
            gains, average = _gains(control, arm, seed)
        summary["arms"][name] = {
            "qps": list(arm.qps),
            "end_to_end_qps": list(arm.end_to_end_qps),
            "skipped_steps": arm.skipped_steps,
            "rows_lost": arm.rows_lost,
            "average_ne_gain_percent": mean_record(average),
            "tasks": {
                task: {**asdict(metrics), "ne_gain_percent": mean_record(gain)}
                for task, metrics, gain in zip(tasks, arm.evaluation.tasks, gains, strict=True)
            },
        }
    return summary


def paired_bootstrap(control: FloatArray, arm: FloatArray, seed: int = 0) -> tuple[list[Interval], Interval]:
    """NE gains (%) of one seed, with intervals from resampling evaluation rows, the same ones for both arms.

    Rows are resampled in the K buckets of their hash, so that memory does not grow with the split.

    Args:
        control: (K, M, 4) sums of the control, as :class:`dlrm_mtl.metrics.sums.MetricSums` keeps them.
        arm: (K, M, 4) of the arm, over the same rows.

    Returns:
        the gain of each task, and the gain averaged over tasks.
    """
    buckets = len(control)
    counts = np.random.default_rng(seed).multinomial(buckets, np.full(buckets, 1 / buckets), size=REPLICATES)
    weights = np.concatenate([np.ones((1, buckets)), counts])  # the first row is the sample itself
    gains = 100 * (_resampled_ne(weights, control) - _resampled_ne(weights, arm))  # (1 + REPLICATES, M)
    tasks = [percentile_interval(float(column[0]), column[1:]) for column in gains.T]
    average = gains.mean(axis=1)
    return tasks, percentile_interval(float(average[0]), average[1:])


def _resampled_ne(weights: FloatArray, sums: FloatArray) -> FloatArray:
    return normalized_entropy(np.einsum("rk,kmc->rmc", weights, sums, optimize=True))


def _gains(control: ArmResult, arm: ArmResult, seed: int) -> tuple[list[Interval | None], Interval | None]:
    """Gains of each task and their average; None where an arm has no NE, because its predictions are not finite."""
    defined = [
        a.ne is not None and b.ne is not None
        for a, b in zip(control.evaluation.tasks, arm.evaluation.tasks, strict=True)
    ]
    if not all(defined):
        kept = np.flatnonzero(defined)
        some = (
            paired_bootstrap(control.evaluation.sums[:, kept], arm.evaluation.sums[:, kept], seed)[0]
            if len(kept)
            else []
        )
        found = iter(some)
        return [next(found) if known else None for known in defined], None
    gains, average = paired_bootstrap(control.evaluation.sums, arm.evaluation.sums, seed)
    return list(gains), average
