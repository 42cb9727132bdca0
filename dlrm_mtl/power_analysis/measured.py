"""The noise of gains over seeds and over evaluation rows, measured from a finished comparison."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dlrm_mtl.power_analysis.options import PowerOptions
from dlrm_mtl.power_analysis.source import GainNoise, Source
from dlrm_mtl.quoting import quote
from dlrm_mtl.records import MayHoldMore, build
from dlrm_mtl.reporting.effects.gains import Gains, gains_of_seed
from dlrm_mtl.reporting.effects.over_seeds import effect_over_seeds
from dlrm_mtl.reporting.normalized_loss import gain_of, is_regression
from dlrm_mtl.reporting.runs.report_data import Record, Run, read_run
from dlrm_mtl.statistics.effect import LEVEL, student_quantile
from dlrm_mtl.statistics.power import Noise
from dlrm_mtl.task_weights import share_weights

SEEDS_ONLY = (
    "Not every seed has a seed-S.npz, so the noise over rows is unknown: the numbers hold for other seeds on these"
    " rows, not for other rows."
)


@dataclass(frozen=True)
class Counts(MayHoldMore):
    """Evaluation rows of a task."""

    rows: int


@dataclass(frozen=True)
class BinaryCounts(Counts):
    """Of a binary task."""

    positives: int


def measure_noise(options: PowerOptions, directory: Path) -> Source:
    """The noise of every arm's gains in a run directory. A gain that some seed lacks is left out, with a note. Without
    seed-S.json the noise is taken from the intervals of comparison.json.

    Raises:
        ValueError: there is no finished comparison; it has a single seed or lacks an arm of the options; a task weight
            is missing or names no task; a seed-S.npz does not fit its seed-S.json.
    """
    run = read_run(directory)
    treatments = [arm for arm in run.arms if arm != run.control]
    for arm in options.arms:
        if arm not in treatments:
            raise ValueError(f"{directory}: has no arm {quote(arm)} beside its control; its arms: {quote(treatments)}")
    arms = options.arms or treatments
    counts = {arm: len(run.comparison["arms"][arm]["seeds"]) for arm in arms}
    if run.seeds:
        counts = {arm: sum(arm in summary["arms"] for summary in run.seeds) for arm in arms}
    for arm, count in counts.items():
        if count < 2:
            raise ValueError(f"{directory}: arm {quote(arm)} has {count} seeds, expected two, to know how seeds spread")
    if run.seeds:
        own = share_weights(options.task_weights, run.comparison["tasks"]) if options.task_weights else None
        gains, notes = _from_seeds(run, arms, own or run.comparison["task_weights"])
    elif options.task_weights:
        raise ValueError(f"{directory}: has no seed-S.json, from which an average with other weights could be taken")
    else:
        gains, notes = _from_intervals(run, arms), [SEEDS_ONLY]
    seeds = max(counts.values(), default=2)
    return Source(f"{directory}, {seeds} seeds, control {run.control}", notes, options.seeds or seeds, gains)


def _from_intervals(run: Run, arms: Sequence[str]) -> list[GainNoise]:
    gains = []
    for arm in arms:
        compared = run.comparison["arms"][arm]
        of = {None: compared["average_ne_gain_percent"]}
        of |= {task: gain_of(values) for task, values in compared["tasks"].items()}
        seeds = len(compared["seeds"])
        for task, gain in of.items():
            if gain is not None:
                interval = gain.get("over_seeds") or gain
                half = (interval["high"] - interval["low"]) / 2
                spread = math.sqrt(seeds) * half / student_quantile(seeds - 1, (1 - LEVEL) / 2)
                gains.append(GainNoise(arm, task, Noise(spread), False, None, None))
    return gains


def _from_seeds(run: Run, arms: Sequence[str], shares: Mapping[str, float]) -> tuple[list[GainNoise], list[str]]:
    rows_known = all(summary["seed"] in run.estimates for summary in run.seeds)
    notes, gains = [], []
    for arm in arms:
        summaries = [summary for summary in run.seeds if arm in summary["arms"]]
        estimates = [run.estimates[summary["seed"]] for summary in summaries] if rows_known else []
        over_rows = [gains_of_seed(of_seed, run.control)[arm] for of_seed in estimates]
        of_seeds = [summary["arms"][arm]["tasks"] for summary in summaries]
        exploded = {task for task in shares if any(gain_of(of[task]) is None for of in of_seeds)}
        notes += [f"{arm}: {task} is left out: not every seed has a loss of it." for task in sorted(exploded)]
        counts = {task: _counts(of_seeds[0][task], f"tasks.{task}") for task in shares}
        averages: dict[str | None, Mapping[str, float]] = {None: shares, **{task: {task: 1.0} for task in shares}}
        for name, weights in averages.items():
            if exploded & weights.keys():
                continue
            values = [sum(w * gain_of(of[task])["mean"] for task, w in weights.items()) for of in of_seeds]
            noise = _noise(values, over_rows, [weights.get(task, 0.0) for task in shares])
            rows = max(counts[task].rows for task in weights)
            positives = own.positives if name and isinstance(own := counts[name], BinaryCounts) else None
            gains.append(GainNoise(arm, name, noise, rows_known, rows, positives))
    return gains, notes if rows_known else [*notes, SEEDS_ONLY]


def _counts(task: Record, where: str) -> Counts:
    return build(Counts if is_regression(task) else BinaryCounts, task, where)


def _noise(values: Sequence[float], gains: Sequence[Gains], shares: Sequence[float]) -> Noise:
    """The noise of the weighted average of the tasks' gains."""
    if not gains:
        return Noise.measured(values)
    alone = [effect_over_seeds([value], [own], "ne", shares) for value, own in zip(values, gains, strict=True)]
    together = effect_over_seeds(values, gains, "ne", shares)
    return Noise.measured(values, [effect.rows_error**2 for effect in alone], together.rows_error**2)
