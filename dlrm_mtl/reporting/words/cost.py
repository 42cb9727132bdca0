"""Sentences about an arm's speed, skipped steps and lost rows."""

from collections.abc import Mapping
from typing import Any

from dlrm_mtl.reporting.words.phrases import count, interval_text

SIGNIFICANT_COST = 5.0
"""QPS loss in percent from which the paper calls one significant (section 5.3)."""


def on_cost(qps: Mapping[str, Any] | None) -> str:
    """The change of an arm's speed. Claims are made by the end of the interval, not by its middle."""
    if qps is None:
        return "Speed was not timed: too few steps."
    change = qps["change_percent"]
    low, high = change["low"], change["high"]
    measured = f"{change['median']:+.2f} % of QPS"
    if low is None:
        reasons = "too few windows, arms trained apart, or windows that were not kept by seed"
        return f"Speed: {measured}, without an interval: {reasons}."
    measured = f"{measured} {interval_text(change, 2)}"
    bound = f"the {SIGNIFICANT_COST:g} % from which the paper calls a cost significant"
    if low > 0:
        return f"Speed: faster, {measured}."
    if low > -SIGNIFICANT_COST:
        degree = "costs some speed" if high < 0 else "no cost is shown"
        return f"Speed: {degree}, {measured}; it costs less than {bound}."
    if high < -SIGNIFICANT_COST:
        return f"Speed: costs {measured}, more than {bound}."
    degree = "costs some speed" if high < 0 else "inconclusive"
    return f"Speed: {degree}, {measured}; a cost of more than {bound} is not ruled out."


def cost_claim(qps: Mapping[str, Any] | None) -> str:
    """The same in a few words."""
    if qps is None:
        return "not timed"
    low, high = qps["change_percent"]["low"], qps["change_percent"]["high"]
    if low is None:
        return "no interval"
    if low > 0:
        return "faster"
    if low > -SIGNIFICANT_COST:
        return f"costs less than {SIGNIFICANT_COST:g} %"
    return f"costs more than {SIGNIFICANT_COST:g} %" if high < -SIGNIFICANT_COST else "cost not settled"


def on_losses(arm: Mapping[str, Any]) -> list[str]:
    """Skipped steps and lost rows of an arm."""
    sentences = []
    if skipped := arm.get("skipped_steps", 0):
        sentences.append(f"{count(skipped, 'step')} skipped, as a loss or gradient was not finite.")
    if lost := arm.get("rows_lost", 0):
        sentences.append(f"{count(lost, 'training row')} lost with their shards.")
    return sentences
