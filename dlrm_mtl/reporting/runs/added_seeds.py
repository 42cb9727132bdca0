"""Seeds of a joined comparison that were not planned when its first job began."""

from collections.abc import Mapping, Sequence
from typing import Any

from dlrm_mtl.reporting.runs.report_data import Run
from dlrm_mtl.statistics.looks import error_of_looks


def describe_seeds(runs: Sequence[Run], control: str) -> dict[str, Any]:
    """``planned_seeds``, and ``added_seeds`` for arms with seeds outside the plan: which seeds, at how many seeds the
    arm could be looked at, and how often its interval would exclude 0 at one of these looks if there were no
    difference.

    An arm's plan is that of the first job that trains it; ``--planned-seeds`` tells of jobs planned together.
    """
    in_time = sorted(runs, key=lambda run: str(run.environment["time"]))
    plans: dict[str, list[int]] = {}
    jobs: dict[str, list[Sequence[int]]] = {}
    for run in in_time:
        for name, arm in run.comparison["arms"].items():
            if name != control:
                plans.setdefault(name, list(run.comparison["planned_seeds"]))
                jobs.setdefault(name, []).append(arm["seeds"])
    added = {name: _added(plan, jobs[name]) for name, plan in plans.items()}
    return {
        "planned_seeds": sorted({seed for plan in plans.values() for seed in plan}),
        "added_seeds": {name: record for name, record in added.items() if record["seeds"]},
    }


def _added(plan: Sequence[int], jobs: Sequence[Sequence[int]]) -> Mapping[str, Any]:
    """``jobs`` holds the seeds of each job, in order of their start."""
    there: set[int] = set()
    looks: list[int] = []
    for seeds in jobs:
        before = len(there)
        there |= set(seeds)
        if set(seeds) - set(plan):
            looks += [before, len(there)]
    looks = sorted({look for look in looks if look})
    return {"seeds": sorted(there - set(plan)), "looks": looks, "error_rate": error_of_looks(looks)}
