"""Random search of static weights against a balancer that needs none: how many trials, at what cost?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlrm_mtl.studies.catalog import RECOMMENDED


@dataclass(frozen=True)
class Trial:
    """One static weighting, or the balancer."""

    arm: str
    average: float
    """NE gain (%) over the control, averaged over tasks; mean over seeds."""
    worst: float
    """Of the task that gains least."""


def describe_search(comparison: Mapping[str, Any]) -> str:
    """What the search found, in Markdown.

    A weighting is as good as the balancer if it gains as much on average, and its worst task loses no more.
    """
    arms = comparison["arms"]
    balancer = _trial(RECOMMENDED, arms[RECOMMENDED])
    trials = [_trial(arm, record) for arm, record in arms.items() if arm.startswith("static:")]
    known = [trial for trial in trials if trial is not None]
    if balancer is None:
        return f"`{RECOMMENDED}` exploded in some seed: there is nothing to compare with."
    lines = [
        f"`{RECOMMENDED}`: average {balancer.average:+.3f}, worst task {balancer.worst:+.3f}, in one training.",
        _first_as_good(known, balancer),
        _best_without_worse_task(known, balancer),
    ]
    if len(known) < len(trials):
        lines.append(f"{len(trials) - len(known)} of {len(trials)} weightings exploded.")
    return "\n\n".join(lines)


def _first_as_good(trials: Sequence[Trial], balancer: Trial) -> str:
    for number, trial in enumerate(trials, start=1):
        if trial.average >= balancer.average and trial.worst >= balancer.worst:
            return (
                f"As good on average and in the worst task is, first, trial {number}, `{trial.arm}`: average"
                f" {trial.average:+.3f}, worst {trial.worst:+.3f}. A search that stops there costs {number} trainings."
            )
    return (
        f"None of {len(trials)} random weightings is as good on average and in the worst task: the search costs"
        f" {len(trials)} trainings and has not found one."
    )


def _best_without_worse_task(trials: Sequence[Trial], balancer: Trial) -> str:
    fair = [trial for trial in trials if trial.worst >= balancer.worst]
    if not fair:
        best = max(trials, key=lambda trial: trial.worst, default=None)
        end = f" The worst task of the gentlest, `{best.arm}`, gains {best.worst:+.3f}." if best else ""
        return f"In every one of them some task loses more than under the balancer.{end}"
    best = max(fair, key=lambda trial: trial.average)
    return (
        f"Of the {len(fair)} whose worst task loses no more than under the balancer the best is `{best.arm}`: average"
        f" {best.average:+.3f}, worst {best.worst:+.3f}. It was chosen by the rows that judge it, which flatters it."
    )


def _trial(arm: str, record: Mapping[str, Any]) -> Trial | None:
    """None if it exploded."""
    gains = [task["ne_gain_percent"] for task in record["tasks"].values()]
    average = record["average_ne_gain_percent"]
    if average is None or None in gains:
        return None
    return Trial(arm, average["mean"], min(gain["mean"] for gain in gains))
