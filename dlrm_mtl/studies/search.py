"""Random search of static weights against a balancer that needs none: how many trials, at what cost?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dlrm_mtl.reporting.escaping import code
from dlrm_mtl.studies.catalog import RECOMMENDED


@dataclass(frozen=True)
class Trial:
    """One static weighting, or the balancer."""

    arm: str
    average: float
    """NE gain (%) over the control, averaged over tasks; mean over seeds."""
    worst: float
    """Of the task that gains least."""


@dataclass(frozen=True)
class Search:
    """What a search found."""

    balancer: Trial
    trials: tuple[Trial, ...]
    """In the order of the search, without those that exploded."""
    exploded: int

    @property
    def first_as_good(self) -> int | None:
        """The number, from 1, of the first trial that gains as much as the balancer on average and in its worst task;
        as many trainings it takes to find it."""
        for number, trial in enumerate(self.trials, start=1):
            if trial.average >= self.balancer.average and trial.worst >= self.balancer.worst:
                return number
        return None

    @property
    def fair(self) -> tuple[Trial, ...]:
        """Those whose worst task loses no more than under the balancer."""
        return tuple(trial for trial in self.trials if trial.worst >= self.balancer.worst)

    @property
    def best_fair(self) -> Trial | None:
        """Of those the best on average. It is chosen by the rows that judge it, which flatters it."""
        return max(self.fair, key=lambda trial: trial.average, default=None)


def read_search(comparison: Mapping[str, Any]) -> Search | None:
    """The search in a comparison; None if the balancer exploded, so that there is nothing to compare with."""
    arms = comparison["arms"]
    balancer = _trial(RECOMMENDED, arms[RECOMMENDED])
    trials = [_trial(arm, record) for arm, record in arms.items() if arm.startswith("static:")]
    known = tuple(trial for trial in trials if trial is not None)
    return None if balancer is None else Search(balancer, known, len(trials) - len(known))


def describe_search(comparison: Mapping[str, Any]) -> str:
    """What the search found, in Markdown.

    A weighting is as good as the balancer if it gains as much on average, and its worst task loses no more.
    """
    search = read_search(comparison)
    if search is None:
        return f"{code(RECOMMENDED)} exploded in some seed: there is nothing to compare with."
    balancer = search.balancer
    lines = [
        f"{code(RECOMMENDED)}: average {balancer.average:+.3f}, worst task {balancer.worst:+.3f}, in one training.",
        _first_as_good(search),
        _best_without_worse_task(search),
    ]
    if search.exploded:
        lines.append(f"{search.exploded} of {len(search.trials) + search.exploded} weightings exploded.")
    return "\n\n".join(lines)


def _first_as_good(search: Search) -> str:
    number = search.first_as_good
    if number is None:
        return (
            f"None of {len(search.trials)} random weightings is as good on average and in the worst task: the search"
            f" costs {len(search.trials)} trainings and has not found one."
        )
    trial = search.trials[number - 1]
    return (
        f"As good on average and in the worst task is, first, trial {number}, {code(trial.arm)}: average"
        f" {trial.average:+.3f}, worst {trial.worst:+.3f}. A search that stops there costs {number} trainings."
    )


def _best_without_worse_task(search: Search) -> str:
    best = search.best_fair
    if best is None:
        gentlest = max(search.trials, key=lambda trial: trial.worst, default=None)
        end = f" The worst task of the gentlest, {code(gentlest.arm)}, gains {gentlest.worst:+.3f}." if gentlest else ""
        return f"In every one of them some task loses more than under the balancer.{end}"
    return (
        f"Of the {len(search.fair)} whose worst task loses no more than under the balancer the best is"
        f" {code(best.arm)}: average {best.average:+.3f}, worst {best.worst:+.3f}. It was chosen by the rows that"
        " judge it, which flatters it."
    )


def _trial(arm: str, record: Mapping[str, Any]) -> Trial | None:
    """None if it exploded."""
    gains = [task["ne_gain_percent"] for task in record["tasks"].values()]
    average = record["average_ne_gain_percent"]
    if average is None or None in gains:
        return None
    return Trial(arm, average["mean"], min(gain["mean"] for gain in gains))
