"""Gains of one seed, and their intervals over rows: against a bootstrap of single rows, and by how often they hold the
truth."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from dlrm_mtl.models.ranker import Predictions
from dlrm_mtl.reporting.seed_summary import summarize_seed
from tests.reporting.results import TASKS, FloatArray, arm_result, row_sums, simulate


def gains(control: Predictions, arm: Predictions) -> FloatArray:
    """(3, 3) mean, low and high of both tasks and of the average."""
    found = summarize_seed(0, TASKS, {"mean": arm_result(control, []), "arm": arm_result(arm, [])})["arms"]["arm"]
    records = [*(found["tasks"][task]["ne_gain_percent"] for task in TASKS), found["average_ne_gain_percent"]]
    return np.array([[record[key] for key in ("mean", "low", "high")] for record in records])


def bootstrap(control: Predictions, arm: Predictions, draws: int = 1000) -> FloatArray:
    """The same, from resampling rows."""
    rng = np.random.default_rng(0)
    sums = [row_sums(predictions) for predictions in (control, arm)]
    rows = len(sums[0])
    found = []
    for draw in range(draws + 1):
        counts = rng.multinomial(rows, np.full(rows, 1 / rows)) if draw else np.ones(rows)
        nes = [normalized_entropy(np.tensordot(counts, each, 1)) for each in sums]
        gain = 100 * (nes[0] - nes[1])
        found.append([*gain, gain.mean()])
    center, *replicates = np.array(found)
    return np.stack([center, *np.quantile(replicates, [0.025, 0.975], axis=0)], axis=1)


def normalized_entropy(sums: FloatArray) -> FloatArray:
    """(M,) from (M, 4)."""
    rows, positives, log_loss = sums[:, 0], sums[:, 1], sums[:, 2]
    rate = positives / rows
    result: FloatArray = log_loss / rows / -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
    return result


def test_identical_arms_gain_nothing() -> None:
    [predictions] = simulate(2000, [0.5])
    assert (gains(predictions, predictions) == 0).all()


def test_the_gain_is_the_difference_of_ne_and_positive_is_better() -> None:
    control, better = simulate(20_000, [1.0, 0.2])
    mean, low, high = gains(control, better).T
    expected = [100 * (c - a) for c, a in zip(*(ne_of(p) for p in (control, better)), strict=True)]
    assert mean == pytest.approx([*expected, np.mean(expected)])
    assert (mean > 1).all()
    assert ((low > 0) & (low < mean) & (mean < high)).all()
    assert gains(better, control) == pytest.approx(-gains(control, better)[:, [0, 2, 1]], rel=1e-6)


def ne_of(predictions: Predictions) -> Sequence[float]:
    return [task.normalized_loss or np.nan for task in arm_result(predictions, []).evaluation.tasks]


@pytest.mark.parametrize("rows", [800, 3000])
def test_buckets_are_as_good_as_rows(rows: int) -> None:
    """Whether a bucket holds less than a row on average, or several: the interval of a bootstrap of rows, give or take
    chance."""
    control, arm = simulate(rows, [0.6, 0.4], shift=-2.0)
    by_bucket, by_row = gains(control, arm), bootstrap(control, arm)
    assert by_bucket[:, 0] == pytest.approx(by_row[:, 0], rel=1e-5)
    np.testing.assert_allclose(by_bucket[:, 2] - by_bucket[:, 1], by_row[:, 2] - by_row[:, 1], rtol=0.15)


def test_the_interval_covers_the_true_gain() -> None:
    """As often as it should, and with the width that the spread of estimates asks for."""
    nes = [normalized_entropy(row_sums(p).sum(axis=0)) for p in simulate(400_000, [0.6, 0.4], seed=100, shift=0.0)]
    gain = 100 * (nes[0] - nes[1])
    truth = [*gain, gain.mean()]
    found = np.array([gains(*simulate(1500, [0.6, 0.4], seed, shift=0.0)) for seed in range(40)])  # (40, 3, 3)
    center, low, high = np.moveaxis(found, 2, 0)
    assert 0.88 < ((low <= truth) & (truth <= high)).mean() < 0.995
    spread = np.sqrt(((center - truth) ** 2).mean(axis=0))
    np.testing.assert_allclose((high - low).mean(axis=0) / (2 * 1.96), spread, rtol=0.25)


def test_one_positive_is_enough_for_an_interval() -> None:
    control, arm = simulate(500, [0.5, 0.4])
    for predictions in (control, arm):
        predictions.labels[:, 1] = 0
        predictions.labels[7, 1] = 1
    found = gains(control, arm)
    assert np.isfinite(found).all()
    assert (found[:, 1] < found[:, 2]).all()


def test_a_task_of_one_class_has_no_gain_and_there_is_no_average() -> None:
    control, arm = simulate(500, [0.5, 0.4])
    for predictions in (control, arm):
        predictions.labels[:, 1] = 0
    summary: Any = summarize_seed(0, TASKS, {"mean": arm_result(control, []), "arm": arm_result(arm, [])})
    found = summary["arms"]["arm"]
    assert found["tasks"]["rare"]["ne_gain_percent"] is None
    assert found["average_ne_gain_percent"] is None
    assert found["tasks"]["click"]["ne_gain_percent"]["mean"] > 0
