"""Joins runs of separate jobs that trained other seeds or arms against a common control."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlrm_mtl.cli import as_dict
from dlrm_mtl.quoting import quote
from dlrm_mtl.reporting.comparison import RATES, compare_seeds
from dlrm_mtl.reporting.effects.gains import Gains, gains_of_seed
from dlrm_mtl.reporting.effects.recorded_gains import with_gains_over
from dlrm_mtl.reporting.runs.added_seeds import describe_seeds
from dlrm_mtl.reporting.runs.report_data import Record, Run
from dlrm_mtl.reporting.runs.run_records import evaluation_shape
from dlrm_mtl.reporting.runs.train_runs import with_controls
from dlrm_mtl.run_config import CompareConfig
from dlrm_mtl.run_directory import CHANGEABLE, flat
from dlrm_mtl.task_weights import share_weights

OF_ONE_JOB = ("arm", "seed", "arms", "seeds", "first_seed", "planned_seeds", "task_weights", *CHANGEABLE)
"""Options that may differ between joined jobs: what each trains, where, and how the work is done. Task weights are
compared by comparison.json."""

OF_ALL_JOBS = ("data_set", "training")
"""Fields of comparison.json that must be equal in all joined jobs."""


def join_runs(runs: Sequence[Run], control: str | None = None, task_weights: Sequence[str] = ()) -> Record:
    """The comparison over all arms and seeds of some runs.

    Every arm is compared with the control of its own run, seed by seed, and its speed window by window; that of a run
    of ``dlrm_mtl.train`` with the control of its seed in another run, and its speed by the medians. The control's own
    numbers are those of the first run that has the seed. A single run without seed-S.json keeps the comparison that
    it wrote. ``added_seeds`` were not planned when the first job began; ``reweighed`` says whether the task weights
    differ from those of the runs.

    Args:
        control: an arm of every comparison; by default the control, or only arm, of the first run.
        task_weights: ``TASK=WEIGHT`` for every task, for the average; by default the weights of the runs.

    Raises:
        ValueError: the runs differ in data, options or buckets of rows; one lacks the control or a seed-S.json; two
            have an arm and seed in common; another control is asked for where arms have a single seed; or the weights
            name other tasks.
    """
    first = runs[0]
    control = first.control if control is None else control
    if len(runs) == 1 and control == first.control and not first.seeds and not task_weights:
        return first.comparison
    runs = with_controls(runs, control)
    for run in runs:
        _require_same(first, run)
        _require_complete(run)
        if control not in run.arms:
            raise ValueError(f"{run.directory}: has no arm {control!r}, the control; its arms: {', '.join(run.arms)}")
    _require_same_buckets(runs)
    shares = first.comparison["task_weights"]
    if task_weights:
        shares = share_weights(task_weights, first.comparison["tasks"])
    else:
        _require_same_weights(runs)
    joined: dict[int, dict[str, Any]] = {}
    source: dict[tuple[str, int], Run] = {}
    gains: dict[int, dict[str, Gains]] = {}
    for run in runs:
        for summary in run.seeds:
            seed = summary["seed"]
            if seed in run.estimates:
                gains.setdefault(seed, {}).update(gains_of_seed(run.estimates[seed], control))
            arms = joined.setdefault(seed, {"seed": seed, "arms": {}})["arms"]
            for name, arm in _against(control, summary).items():
                if name == control and name in arms:
                    continue
                if (name, seed) in source:
                    other = source[name, seed].directory
                    raise ValueError(f"{run.directory}: arm {name!r} with seed {seed} is also in {other}")
                arms[name], source[name, seed] = arm, run
    comparison = compare_seeds(
        first.comparison["tasks"],
        [joined[seed] for seed in sorted(joined)],
        first.comparison["bayes_ne"],
        shares,
        gains=gains,
        clusters=first.comparison["clusters"],
    )
    if len(comparison["arms"]) == 1:
        raise ValueError(f"{first.directory}: has only arm {control!r}, expected further runs, of other arms")
    for name, arm in comparison["arms"].items():
        run, seeds = source[name, arm["seeds"][0]], arm["seeds"]
        if len(seeds) == 1 and run.control != control and name not in (control, *gains.get(seeds[0], ())):
            raise ValueError(
                f"{run.directory}: arm {name!r} has one seed, whose intervals are against {run.control!r}, and no"
                f" seed-{seeds[0]}.npz; expected two seeds or more for intervals against {control!r}"
            )
    return {
        **{key: first.comparison[key] for key in OF_ALL_JOBS if key in first.comparison},
        **comparison,
        **describe_seeds(runs, control),
        "reweighed": any(shares != run.comparison["task_weights"] for run in runs),
    }


def _require_same_weights(runs: Sequence[Run]) -> None:
    """Raises a ValueError that names the first run with other task weights."""
    first = runs[0]
    for run in runs[1:]:
        if run.comparison["task_weights"] != first.comparison["task_weights"]:
            raise ValueError(
                f"{run.results}: task_weights is {quote(run.comparison['task_weights'])},"
                f" expected {quote(first.comparison['task_weights'])} as in {first.directory}, or --task-weights"
            )


def _require_same_buckets(runs: Sequence[Run]) -> None:
    """Raises a ValueError that names the first seed-S.npz with other buckets or segments than the first run's."""
    shapes = {
        run.estimates_file(seed): evaluation_shape(next(iter(arms.values())))
        for run in runs
        for seed, arms in run.estimates.items()
    }
    for file, shape in shapes.items():
        first = next(iter(shapes))
        if shape != shapes[first]:
            raise ValueError(f"{file}: was evaluated in other buckets or segments of rows than {first}")
    clusters = runs[0].comparison["clusters"]
    for run in runs:
        if run.estimates and run.comparison["clusters"] != clusters:
            raise ValueError(
                f"{run.results}: clusters is {quote(run.comparison['clusters'])}, expected"
                f" {quote(clusters)} as in {runs[0].directory}"
            )


def _require_same(first: Run, run: Run) -> None:
    """Raises a ValueError that names what differs in data or options. An option that a run lacks, since an earlier
    version wrote it, had its default."""
    defaults = flat(as_dict(CompareConfig(Path("data"), Path("out"))))
    wanted, other = ({**defaults, **flat(one.config)} for one in (first, run))
    for key in sorted(wanted.keys() | other.keys()):
        if key in OF_ONE_JOB or key.partition(".")[0] in OF_ONE_JOB:
            continue
        if wanted.get(key) != other.get(key):
            raise ValueError(
                f"{run.directory / 'config.json'}: {key} is {other.get(key)!r}, expected {wanted.get(key)!r} as in"
                f" {first.directory}"
            )
    if first.comparison["tasks"] != run.comparison["tasks"]:
        raise ValueError(
            f"{run.directory}: its tasks are {run.comparison['tasks']}, expected {first.comparison['tasks']} as in"
            f" {first.directory}"
        )
    if first.shards is None or run.shards is None:
        if first.config["data"] != run.config["data"]:
            raise ValueError(
                f"{run.directory / 'config.json'}: data is {run.config['data']!r}, expected {first.config['data']!r} as"
                f" in {first.directory}; with a data.json in both, checksums would tell whether they are the same"
            )
    elif first.shards != run.shards:
        expected = {shard["file"]: shard for shard in first.shards}
        files = {shard["file"]: shard for shard in run.shards}
        file = min(name for name in expected.keys() | files.keys() if expected.get(name) != files.get(name))
        raise ValueError(f"{run.directory / 'data.json'}: {file} is not the same as in {first.directory}")


def _require_complete(run: Run) -> None:
    """Raises a ValueError that names the first missing seed-S.json."""
    there = {summary["seed"] for summary in run.seeds}
    for seed in sorted({seed for arm in run.comparison["arms"].values() for seed in arm["seeds"]} - there):
        raise ValueError(f"{run.directory / f'seed-{seed}.json'}: not found")


def _against(control: str, summary: Record) -> dict[str, Any]:
    """A seed's arms, the control first, each with the control's windows and its gain over the control. Against a
    control other than the run's, gains have no interval over rows."""
    arms = summary["arms"]
    baseline = arms[control]
    own = next(iter(arms)) == control
    ordered = {control: baseline, **arms}
    return {
        name: {
            **(arm if own else with_gains_over(baseline, arm)),
            **{f"control_{rate}": baseline.get(rate, []) for rate in RATES},
            "control_tasks": baseline["tasks"],
            "control_products": baseline.get("products", {}),
        }
        for name, arm in ordered.items()
    }
