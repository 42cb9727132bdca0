"""Runs of ``dlrm_mtl.train``, one arm and seed each, beside comparisons in a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dlrm_mtl.reporting.comparison import INDEPENDENT_ROWS, compare_seeds
from dlrm_mtl.reporting.effects.recorded_gains import with_gains_over
from dlrm_mtl.reporting.runs.report_data import RESULT, Run, read_files, read_run
from dlrm_mtl.reporting.runs.run_records import Seed, read_record, read_seed_estimates


@dataclass(frozen=True, kw_only=True)
class TrainResult(Seed):
    """result.json: the results of the seed, and what they are results on."""

    data_set: str = ""
    clusters: str = INDEPENDENT_ROWS
    bayes_ne: Mapping[str, float | None] = field(default_factory=dict)


def read_job(directory: Path) -> Run:
    """Reads a run directory of ``dlrm_mtl.compare`` or ``dlrm_mtl.train``.

    Raises:
        ValueError: it is not finished; see :func:`read_run`.
    """
    if (directory / RESULT).is_file():
        return _read_train_run(directory)
    file = directory / "comparison.json"
    if not file.exists():
        raise ValueError(f"{file}: not found, nor {RESULT} of a run of dlrm_mtl.train; expected a finished run")
    return read_run(directory)


def _read_train_run(directory: Path) -> Run:
    """A run as a comparison of its arm with nothing."""
    file = directory / RESULT
    result = read_record(file, TrainResult)
    [arm] = result["arms"].values()
    tasks = list(arm["tasks"])
    comparison = {
        "data_set": result.get("data_set", ""),
        **compare_seeds(tasks, [result], result.get("bayes_ne", {}), clusters=result.get("clusters", INDEPENDENT_ROWS)),
    }
    estimates = read_seed_estimates(file.with_suffix(".npz"), result["arms"], tasks)
    seed = result["seed"]
    return read_files(file, comparison, [result], {seed: estimates} if estimates else {}, {seed: directory})


def with_controls(runs: Sequence[Run], control: str) -> list[Run]:
    """The runs, where each of ``dlrm_mtl.train`` has the control of its seed, from another run. The seeds of all these
    count as planned, since such a run does not say how many were.

    Raises:
        ValueError: no run has the control with this seed.
    """
    sources = {summary["seed"]: run for run in reversed(runs) for summary in run.seeds if control in summary["arms"]}
    alone = [run for run in runs if run.is_alone]
    planned = sorted({summary["seed"] for run in alone for summary in run.seeds})
    return [_with_control(run, control, sources, planned) if run.is_alone else run for run in runs]


def _with_control(run: Run, control: str, sources: Mapping[int, Run], planned: Sequence[int]) -> Run:
    run = replace(run, comparison={**run.comparison, "planned_seeds": planned})
    [arm], [summary] = run.arms, run.seeds
    if arm == control:
        return run
    seed = summary["seed"]
    if seed not in sources:
        raise ValueError(f"{run.directory}: arm {arm!r} with seed {seed}, but no run has {control!r} with this seed")
    source = sources[seed]
    [baseline] = [other["arms"][control] for other in source.seeds if other["seed"] == seed]
    own = {**with_gains_over(baseline, summary["arms"][arm]), "trained_alone": True}
    estimates = {}
    if seed in run.estimates and seed in source.estimates:
        estimates = {seed: {control: source.estimates[seed][control], **run.estimates[seed]}}
    return replace(
        run,
        comparison={
            **run.comparison,
            "control": control,
            "arms": {control: {"seeds": [seed]}, **run.comparison["arms"]},
        },
        seeds=[{**summary, "arms": {control: baseline, arm: own}}],
        estimates=estimates,
    )
