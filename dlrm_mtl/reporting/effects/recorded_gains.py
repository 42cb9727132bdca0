"""Gains of an arm over its control from their records in seed-S.json."""

from collections.abc import Mapping
from typing import Any

from dlrm_mtl.reporting.normalized_loss import gain_key, gain_of, loss_of

Record = Mapping[str, Any]


def with_gains_over(control: Record, arm: Record) -> dict[str, Any]:
    """An arm's record of one seed, with its gains over this control; they have no interval."""
    regained = {
        kind: {
            name: {**metrics, gain_key("ne", metrics): _gain(control.get(kind, {}).get(name), metrics)}
            for name, metrics in arm[kind].items()
        }
        for kind in ("tasks", "products")
        if kind in arm
    }
    gains = [gain_of(task) for task in regained["tasks"].values()]
    average = None if None in gains else {"mean": sum(gain["mean"] for gain in gains) / len(gains)}
    return {**arm, "average_ne_gain_percent": average, **regained}


def _gain(control: Record | None, arm: Record) -> dict[str, float] | None:
    before, after = None if control is None else loss_of(control), loss_of(arm)
    return None if before is None or after is None else {"mean": 100 * (before - after)}
