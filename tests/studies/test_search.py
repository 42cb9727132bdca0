"""The results of a search of static weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlrm_mtl.metrics.estimates import Estimates
from dlrm_mtl.metrics.evaluation import EvaluationEstimates
from dlrm_mtl.reporting.runs.report_data import Run
from dlrm_mtl.studies.search import Search, read_search
from dlrm_mtl.studies.search_text import describe_search
from tests.messages import mentions

RECOMMENDED = "multibalance_recommended"
SEEDS = (-0.01, 0.0, 0.01)
"""What a seed adds to all arms' gains."""

Gains = Mapping[str, Sequence[float] | None]


def arm_of(gains: Sequence[float] | None, half: float | None, seeds: int) -> dict[str, Any]:
    def record(gain: float) -> dict[str, Any]:
        ends = {} if half is None else {"low": gain - half, "high": gain + half}
        return {"mean": gain, **ends}

    of_tasks = [None, None] if gains is None else [record(gain) for gain in gains]
    return {
        "seeds": list(range(seeds)),
        "average_ne_gain_percent": None if gains is None else record(float(np.mean(gains))),
        "tasks": {task: {"ne_gain_percent": gain} for task, gain in zip(("a", "b"), of_tasks, strict=True)},
    }


def run_of(
    gains: Gains, half: float = 0.05, seeds: Sequence[float] = SEEDS, kept: bool = True, noise: float | None = None
) -> Run:
    """Args: ``kept`` says whether seed-S.json are there; ``noise``, of the buckets of rows, whether seed-S.npz are."""
    gains = {"mean": (0.0, 0.0), **gains}
    generator = np.random.default_rng(0)
    influence = {arm: generator.normal(0, noise or 0.0, (100, 2)) for arm in gains}
    summaries, estimates = [], {}
    for seed, shift in enumerate(seeds):
        own = {
            arm: values if values is None or arm == "mean" else [gain + shift for gain in values]
            for arm, values in gains.items()
        }
        summaries.append({"seed": seed, "arms": {arm: arm_of(values, None, 1) for arm, values in own.items()}})
        if noise is not None:
            estimates[seed] = {
                arm: EvaluationEstimates(
                    {"ne": Estimates(0.9 - np.array(values) / 100, influence[arm] - influence[arm].mean(axis=0))}, {}
                )
                for arm, values in own.items()
                if values is not None
            }
    comparison = {
        "control": "mean",
        "tasks": ["a", "b"],
        "task_weights": {"a": 0.5, "b": 0.5},
        "arms": {arm: arm_of(values, half, len(seeds)) for arm, values in gains.items()},
    }
    return Run(Path("run"), comparison, {}, {}, None, summaries if kept else [], estimates if kept else {}, {})


def trials(*gains: Sequence[float] | None) -> dict[str, Sequence[float] | None]:
    return {f"static:weights={index}": own for index, own in enumerate(gains, start=1)}


def found(run: Run) -> Search:
    search = read_search(run)
    assert search is not None
    return search


def text_of(gains: Gains, **options: Any) -> str:
    return describe_search(read_search(run_of(gains, **options)))


BALANCER = {RECOMMENDED: (0.2, 0.4)}


def test_as_good_is_what_the_data_show_to_be() -> None:
    """Seeds shift all arms alike, so paired differences are certain although single gains are not."""
    search = found(run_of({**BALANCER, **trials((0.1, 0.9), (0.19, 0.41), (0.3, 0.6), (0.0, 5.0))}))
    assert search.as_good == [2, 3]
    assert search.worse == [1, 4]
    text = describe_search(search)
    assert mentions(text, RECOMMENDED, "+0.300", "a +0.200")
    assert mentions(text, "4 random weightings 2", "trial 2, `static:weights=2`", "2 trainings")
    assert mentions(text, "2 are shown to be worse", 3, "below 0")


def test_a_task_may_gain_less_than_under_the_balancer_if_it_is_not_the_worst() -> None:
    search = found(run_of({**BALANCER, **trials((0.4, 0.2), (0.5, 0.1))}))
    assert search.as_good == [1]
    assert search.worse == [2]


def test_noise_of_rows_leaves_nothing_shown() -> None:
    gains = {**BALANCER, **trials((0.1, 0.9), (0.2, 0.4), (0.3, 0.6))}
    search = found(run_of(gains, noise=0.001))
    assert search.as_good == search.worse == search.below == []
    assert mentions(text_of(gains, noise=0.001), "none", "3 trainings", "None")
    assert found(run_of(gains, noise=1e-6)).as_good == [2, 3]


def test_many_trials_are_one_family() -> None:
    """A trial that would pass by itself does not pass among a hundred."""
    spread = (-0.02, 0.0, 0.02)
    balancer = (0.0, 0.0)

    def as_good(count: int) -> list[int]:
        arms = {RECOMMENDED: balancer, **trials(*[(0.0, 0.0)] * count)}
        run = run_of(arms, seeds=(0.0, 0.0, 0.0))
        for summary, shift in zip(run.seeds, spread, strict=True):
            for arm, record in summary["arms"].items():
                if arm.startswith("static"):
                    for task in record["tasks"].values():
                        task["ne_gain_percent"]["mean"] += shift * 0.7
        return found(run).as_good

    assert as_good(1) == [1]
    assert as_good(100) == []


def test_where_seeds_are_not_kept_errors_add_up() -> None:
    gains = {**BALANCER, **trials((0.2, 0.4), (1.5, 1.5), (-1.0, -1.0))}
    search = found(run_of(gains, half=0.2, kept=False))
    difference = search.gains.difference("static:weights=1", None, RECOMMENDED, None).interval()
    assert difference is not None
    assert difference.high == pytest.approx(0.4)
    assert (search.as_good, search.worse) == ([2], [3])
    assert not search.corrected


def test_the_best_is_chosen_on_one_half_of_the_rows_and_judged_on_the_other() -> None:
    """No trial is better than the balancer. The best of twenty looks better on the rows that chose it, but not on
    others."""
    chosen, judged = [], []
    for seed in range(40):
        generator = np.random.default_rng(seed)
        run = run_of({RECOMMENDED: (0.0, 0.0), **trials(*[(0.0, 0.0)] * 20)}, noise=1e-6, seeds=(0.0, 0.0))
        for arms in run.estimates.values():
            for arm, evaluation in arms.items():
                if arm.startswith("static"):
                    # As the sum of influence over a sample of rows is.
                    influence = generator.normal(0, 1e-4, (100, 2))
                    estimates = evaluation.estimates["ne"]
                    estimates.values[:] += influence.sum(axis=0)
                    estimates.influence[:] = influence - influence.mean(axis=0)
            generator = np.random.default_rng(seed)  # the same rows with every seed
        search = found(run)
        assert search.corrected
        best = search.best
        if best is not None:
            judged.append(best.average.mean)
            chosen.append(search.gains.halves()[0].difference(best.arm, None, RECOMMENDED, None).mean)  # type: ignore[index]
    assert len(judged) > 30
    error = float(np.std(judged) / np.sqrt(len(judged)))
    assert np.mean(chosen) > 8 * error
    assert abs(np.mean(judged)) < 3 * error


def test_the_best_spares_the_worst_task() -> None:
    text = text_of({**BALANCER, **trials((0.1, 5.0), (0.25, 0.5), (0.2, 0.4))})
    assert mentions(text, "worst task", "trial 2, `static:weights=2`")
    assert mentions(text, "+0.075 [+0.075, +0.075]", "average", "+0.050 [+0.050, +0.050]")
    assert found(run_of({**BALANCER, **trials((0.1, 2.0), (-1.0, 2.0))})).best is None


def test_one_seed_shows_nothing() -> None:
    search = found(run_of({**BALANCER, **trials((1.0, 1.0))}, seeds=(0.0,), noise=1e-6))
    assert search.as_good == search.worse == []
    assert "one seed" in describe_search(search)


def test_explosions_are_counted() -> None:
    assert mentions(text_of({**BALANCER, **trials((0.2, 0.2), None)}), "1 of 2", "exploded")
    assert "exploded" in text_of({RECOMMENDED: None, **trials((0.2, 0.2))})
