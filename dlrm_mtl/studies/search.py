"""Random search of static weights against a balancer that needs no search."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlrm_mtl.metrics.estimates import Estimates, combine
from dlrm_mtl.reporting.normalized_loss import gain_of
from dlrm_mtl.reporting.runs.report_data import Run
from dlrm_mtl.statistics.effect import Effect
from dlrm_mtl.statistics.families import judge, lose_nothing
from dlrm_mtl.studies.catalog import RECOMMENDED
from dlrm_mtl.studies.search_gains import ArmGains, PairedGains, ReportedGains


@dataclass(frozen=True)
class Choice:
    """Among the trials whose worst task gains no less than the balancer's, the one that gains most on average."""

    number: int
    """Number of the trial, from 1, in the order of the search."""
    arm: str
    average: Effect
    """Its average gain less the balancer's."""
    worst: Effect
    """Its worst task's gain less that of the balancer's worst task."""


@dataclass(frozen=True)
class Search:
    """The results of a search. Gains are over the control; differences are a trial's gain less the balancer's."""

    tasks: Sequence[str]
    gains: ArmGains
    trials: tuple[str, ...]
    """Trials in the order of the search, without exploded ones."""
    exploded: int
    seeds: int

    def worst_task(self, arm: str, gains: ArmGains | None = None) -> int:
        """The task with an arm's smallest gain."""
        return int(np.argmin([(gains or self.gains).mean(arm, task) for task in range(len(self.tasks))]))

    def differences(self, arm: str, gains: ArmGains | None = None) -> list[Effect]:
        """A trial's average gain less the balancer's, then the gain on each of its tasks less that on the balancer's
        worst task. If all of these exceed a bound, so does the difference of the worst tasks."""
        own = gains or self.gains
        worst = self.worst_task(RECOMMENDED)
        return [
            own.difference(arm, None, RECOMMENDED, None),
            *(own.difference(arm, task, RECOMMENDED, worst) for task in range(len(self.tasks))),
        ]

    @property
    def as_good(self) -> list[int]:
        """Numbers, from 1, of the trials shown to gain less than the balancer by no more than the margin, on average
        and in the worst task; all trials are one family. Empty with a single seed."""
        if self.seeds < 2:
            return []
        shown = lose_nothing({arm: self.differences(arm) for arm in self.trials})
        return [number for number, arm in enumerate(self.trials, start=1) if shown[arm]]

    @property
    def below(self) -> list[int]:
        """Numbers of the trials with an interval below 0, on average or in the worst task. Each interval is taken by
        itself, so some exclude 0 by chance."""
        return [
            number
            for number, arm in enumerate(self.trials, start=1)
            if any((interval := effect.interval()) and interval.high < 0 for effect in self.differences(arm))
        ]

    @property
    def worse(self) -> list[int]:
        """Numbers of the trials shown to gain less, on average or in the worst task; all trials and tasks are one
        family."""
        if self.seeds < 2:
            return []
        parts = {(arm, part): effect for arm in self.trials for part, effect in enumerate(self.differences(arm))}
        losing = {arm for (arm, _), verdict in judge(parts).items() if verdict == "loss"}
        return [number for number, arm in enumerate(self.trials, start=1) if arm in losing]

    @property
    def best(self) -> Choice | None:
        """The result of the search: chosen on one half of the evaluation rows and judged on the other if rows were
        kept, else chosen and judged on the same rows. None if every trial's worst task gains less than the balancer's.
        """
        choosing, judging = self.gains.halves() or (self.gains, self.gains)
        floor = choosing.mean(RECOMMENDED, self.worst_task(RECOMMENDED, choosing))
        fair = [arm for arm in self.trials if choosing.mean(arm, self.worst_task(arm, choosing)) >= floor]
        if not fair:
            return None
        arm = max(fair, key=lambda name: choosing.mean(name, None))
        worst = judging.difference(
            arm, self.worst_task(arm, choosing), RECOMMENDED, self.worst_task(RECOMMENDED, choosing)
        )
        return Choice(self.trials.index(arm) + 1, arm, judging.difference(arm, None, RECOMMENDED, None), worst)

    @property
    def corrected(self) -> bool:
        """Whether :attr:`best` is judged on other rows than it was chosen on."""
        return self.gains.halves() is not None


def read_search(run: Run) -> Search | None:
    """The search in a run; None if the balancer's loss exploded."""
    arms = run.comparison["arms"]
    trials = [arm for arm in arms if arm.startswith("static:")]
    measured = {arm: arms[arm] for arm in (RECOMMENDED, *trials) if _has_gains(arms[arm])}
    if RECOMMENDED not in measured:
        return None
    tasks = run.comparison["tasks"]
    shares = [run.comparison["task_weights"][task] for task in tasks]
    seeds = run.comparison["arms"][RECOMMENDED]["seeds"]
    gains: ArmGains = ReportedGains({arm: _reported(record, tasks) for arm, record in measured.items()}, len(seeds))
    if len(run.seeds) == len(seeds):
        gains = PairedGains({arm: [_of_seed(run, seed, arm) for seed in run.seeds] for arm in measured}, shares)
    kept_trials = tuple(arm for arm in trials if arm in measured)
    return Search(tasks, gains, kept_trials, len(trials) - len(kept_trials), len(seeds))


def _has_gains(record: Mapping[str, Any]) -> bool:
    """Whether the arm did not explode."""
    gains = [gain_of(task) for task in record["tasks"].values()]
    return record["average_ne_gain_percent"] is not None and None not in gains


def _reported(record: Mapping[str, Any], tasks: Sequence[str]) -> dict[int | None, Mapping[str, Any]]:
    of_tasks: dict[int | None, Mapping[str, Any]] = {
        index: gain_of(record["tasks"][task]) for index, task in enumerate(tasks)
    }
    return {**of_tasks, None: record["average_ne_gain_percent"]}


def _of_seed(run: Run, summary: Mapping[str, Any], arm: str) -> Estimates:
    """An arm's NE gains with one seed."""
    if len(run.estimates) == len(run.seeds):
        control, own = (run.estimates[summary["seed"]][name].estimates["ne"] for name in (run.control, arm))
        return combine([100.0, -100.0], [control, own])
    gains = [gain_of(summary["arms"][arm]["tasks"][task])["mean"] for task in run.comparison["tasks"]]
    return Estimates(np.array(gains), np.zeros((0, len(gains))))
