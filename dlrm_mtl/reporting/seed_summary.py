"""seed-S.json: the results of one seed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dlrm_mtl.metrics.task_metrics import TaskEvaluation, as_record
from dlrm_mtl.reporting.effects.gains import Gains, gains_of_seed
from dlrm_mtl.reporting.effects.over_seeds import effect_over_seeds
from dlrm_mtl.reporting.normalized_loss import gain_key
from dlrm_mtl.training.loop import ArmResult
from dlrm_mtl.training_length import TrainingLength


def summarize_seed(
    seed: int, tasks: Sequence[str], arms: Mapping[str, ArmResult], length: TrainingLength | None = None
) -> dict[str, Any]:
    """A seed's results as JSON values: metrics and windows of each arm, and gains over the first arm with their
    intervals for other evaluation rows. A gain is None if an arm's predictions are not finite."""
    gains = gains_of_seed({name: arm.evaluation for name, arm in arms.items()}, next(iter(arms)))
    summary: dict[str, Any] = {"seed": seed, **({"training": length.as_json()} if length else {}), "arms": {}}
    for name, arm in arms.items():
        shares = [*np.eye(len(tasks)), np.full(len(tasks), 1 / len(tasks))]
        *of_tasks, average = (_gain(gains[name], share.tolist()) if name in gains else NOTHING for share in shares)
        summary["arms"][name] = {
            "qps": list(arm.qps),
            "end_to_end_qps": list(arm.end_to_end_qps),
            "skipped_steps": arm.skipped_steps,
            "rows_lost": arm.rows_lost,
            "average_ne_gain_percent": average,
            "tasks": {
                task: _with_gain(metrics, gain)
                for task, metrics, gain in zip(tasks, arm.evaluation.tasks, of_tasks, strict=True)
            },
            **_products(arm, gains.get(name)),
        }
    return summary


NOTHING = {"mean": 0.0, "low": 0.0, "high": 0.0}


def _products(arm: ArmResult, gains: Gains | None) -> dict[str, Any]:
    """``products``, if there are any: metrics by product of tasks, and NE gains. ``gains`` is None for the control."""
    records: dict[str, Any] = {}
    products = arm.evaluation.products
    for share, (name, metrics) in zip(np.eye(len(products)), products.items(), strict=True):
        gain = NOTHING if gains is None else gains.products and _gain(gains.products, share.tolist())
        records[name] = _with_gain(metrics, gain)
    return {"products": records} if records else {}


def _with_gain(metrics: TaskEvaluation, gain: Any) -> dict[str, Any]:
    record = as_record(metrics)
    return {**record, gain_key("ne", record): gain}


def _gain(gains: Gains, shares: Sequence[float]) -> dict[str, float | None] | None:
    """The gain averaged over tasks by their shares."""
    used = np.flatnonzero(shares)
    mean = float(gains.metrics["ne"].values[used] @ np.asarray(shares)[used])
    if not np.isfinite(mean):
        return None
    interval = effect_over_seeds([mean], [gains], "ne", shares).interval()
    return {"mean": mean, "low": interval.low if interval else None, "high": interval.high if interval else None}
