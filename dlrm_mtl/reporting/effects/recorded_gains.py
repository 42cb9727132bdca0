"""Gains of an arm over its control from their records in seed-S.json."""

from collections.abc import Mapping
from typing import Any

Record = Mapping[str, Any]


def with_gains_over(control: Record, arm: Record) -> dict[str, Any]:
    """An arm's record of one seed, with its gains over this control; they have no interval."""
    regained = {
        kind: {
            name: {**metrics, "ne_gain_percent": _gain(control.get(kind, {}).get(name), metrics)}
            for name, metrics in arm[kind].items()
        }
        for kind in ("tasks", "products")
        if kind in arm
    }
    gains = [task["ne_gain_percent"] for task in regained["tasks"].values()]
    average = None if None in gains else {"mean": sum(gain["mean"] for gain in gains) / len(gains)}
    return {**arm, "average_ne_gain_percent": average, **regained}


def _gain(control: Record | None, arm: Record) -> dict[str, float] | None:
    if control is None or control["ne"] is None or arm["ne"] is None:
        return None
    return {"mean": 100 * (control["ne"] - arm["ne"])}
