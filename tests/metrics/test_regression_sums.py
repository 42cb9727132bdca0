"""Metrics of regression tasks and of weighted rows from sums, against formulas in float64."""

import numpy as np
import pytest
import torch

from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.metrics.evaluation import Evaluation
from dlrm_mtl.metrics.normalized_loss import sum_estimates
from dlrm_mtl.metrics.predictions.rows import LabelledRows
from dlrm_mtl.metrics.sums import MetricSums, in_this_versions_columns
from dlrm_mtl.metrics.task_metrics import BinaryMetrics, RegressionEvaluation, RegressionMetrics
from dlrm_mtl.model_schema import Task
from dlrm_mtl.models.ranker import Predictions
from tests.metrics import evaluations
from tests.metrics import rows as by_definition
from tests.metrics.influences import assert_estimates
from tests.metrics.kinds import evaluated
from tests.metrics.rows import BUCKETS
from tests.ranks import RankPool

TASKS = (
    Task("click", "click", base_rate=0.5, weight="weight"),
    Task("play", "play", kind="regression", weight="weight"),
    Task("like", "like", base_rate=0.5),
)
KINDS = tuple(task.kind for task in TASKS)


def example(weighted: bool = True) -> Predictions:
    """The example of all evaluations; the second task's label is a number, far from 0 against its deviation, which is
    not defined in every row."""
    predictions = evaluations.example()
    generator = torch.Generator().manual_seed(5)
    count = len(predictions.rows)
    labels = 100 + torch.round(3 * torch.randn(count, generator=generator), decimals=1)
    predictions.logits[:, 1] = labels + torch.randn(count, generator=generator) + 0.5
    defined = torch.rand(count, generator=generator) < 0.8
    predictions.labels[:, 1] = labels * defined
    predictions.weights[:, 1] = defined.float()
    if weighted:
        predictions.weights[:, :2] *= torch.rand(count, 1, generator=generator) + 0.25
    return predictions


def rows_of(predictions: Predictions) -> LabelledRows:
    defined = predictions.weights[:, 1] > 0
    outputs, labels, weights = (
        each[defined, 1].numpy() for each in (predictions.logits, predictions.labels, predictions.weights)
    )
    places = np.arange(len(labels))
    return LabelledRows(
        predictions=outputs,
        labels=labels,
        weights=weights.astype(np.float64),
        buckets=places % BUCKETS,
        num_buckets=BUCKETS,
    )


def test_numbers_equal_the_formulas() -> None:
    predictions = example()
    sums = MetricSums(KINDS, torch.device("cpu"))
    for batch in evaluations.in_batches(predictions, 128):
        sums.update(batch)
    click, play, _ = sums.compute()
    rows = rows_of(predictions)
    labels, weights = rows.labels.astype(float), rows.weights
    errors, mean = rows.predictions - labels, np.average(labels, weights=weights)
    assert isinstance(play, RegressionMetrics)
    assert play.rows == len(labels)
    assert play.weight == pytest.approx(weights.sum(), rel=1e-9)
    assert play.nmse == pytest.approx((weights * errors**2).sum() / (weights * (labels - mean) ** 2).sum(), rel=1e-6)
    assert play.mae == pytest.approx(np.average(abs(errors), weights=weights), rel=1e-9)
    assert play.mean_error == pytest.approx(np.average(errors, weights=weights), rel=1e-6)
    assert play.label_mean == pytest.approx(mean, rel=1e-9)

    assert isinstance(click, BinaryMetrics)
    logits, positive = predictions.logits[:, 0].double().numpy(), predictions.labels[:, 0].numpy() > 0
    weights = predictions.weights[:, 0].double().numpy()
    rate = np.average(positive, weights=weights)
    log_loss = np.average(np.logaddexp(0, np.where(positive, -logits, logits)), weights=weights)
    assert (click.rows, click.positives) == (len(logits), positive.sum())
    assert (click.weight, click.positive_weight) == pytest.approx((weights.sum(), weights[positive].sum()), rel=1e-9)
    assert click.ne == pytest.approx(log_loss / -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate)), rel=1e-6)
    assert click.calibration == pytest.approx(np.average(1 / (1 + np.exp(-logits)), weights=weights) / rate, rel=1e-6)
    of_auc = by_definition.rows_of(logits, positive, weights=weights)
    assert click.auc == pytest.approx(by_definition.auc(of_auc, weights), abs=2e-4)


@pytest.mark.parametrize("metric", ["ne", "mae", "mean_error"])
def test_estimates(metric: str) -> None:
    """Influence against weighing the buckets' sums."""
    rows = rows_of(example())

    def weighted(of_buckets: np.ndarray) -> float:
        weights = rows.weights * of_buckets[rows.buckets]
        errors = rows.predictions.astype(float) - rows.labels
        if metric == "mean_error":
            return float(np.average(errors, weights=weights))
        if metric == "mae":
            return float(np.average(abs(errors), weights=weights))
        spread = (rows.labels - np.average(rows.labels.astype(float), weights=weights)) ** 2
        return float((weights * errors**2).sum() / (weights * spread).sum())

    columns = (rows.labels, rows.predictions, rows.predictions - rows.labels.astype(float))
    labels, predictions, errors = (column.astype(float) for column in columns)
    parts = {
        0: np.ones(len(labels)),
        1: labels,
        2: errors**2,
        3: predictions,
        6: labels**2,
        7: abs(errors),
    }
    sums = np.zeros((BUCKETS, 1, 8))
    for column, values in parts.items():
        sums[:, 0, column] = np.bincount(rows.buckets, rows.weights * values, BUCKETS)
    assert_estimates(sum_estimates(sums, "regression")[metric], weighted, jackknife=0.15)


def test_an_evaluation_of_both_kinds() -> None:
    """XAUC and deciles of the regression, and the binary tasks as they are without it."""
    predictions = example()
    found = evaluations.evaluate([predictions], tasks=TASKS)
    play, rows = found.tasks[1], rows_of(predictions)
    assert isinstance(play, RegressionEvaluation)
    assert play.xauc == pytest.approx(by_definition.xauc(rows, rows.weights), rel=1e-9)
    assert sum(decile.rows for decile in play.deciles) == play.rows == len(rows.labels)
    assert [decile.predicted for decile in play.deciles] == sorted(decile.predicted for decile in play.deciles)
    assert play.mean_error_interval is not None
    assert play.mean_error is not None
    assert play.mean_error_interval.low < play.mean_error < play.mean_error_interval.high
    assert np.isfinite(found.estimates["xauc"].values).tolist() == [False, True, False]
    assert np.isfinite(found.estimates["auc"].values).tolist() == [True, False, True]
    assert found.estimates["ne"].values[1] == pytest.approx(play.nmse, rel=1e-9)
    for values in found.segments.values():
        assert all(np.isfinite(part.ne.values).all() for part in values.values())

    without = evaluations.select_tasks(predictions, [0, 2])
    alone = evaluated(evaluations.evaluate([without], tasks=[TASKS[0], TASKS[2]]).tasks)
    for ours, theirs in zip(evaluated([found.tasks[0], found.tasks[2]]), alone, strict=True):
        assert ours.ne == pytest.approx(theirs.ne, rel=1e-6)
        assert (ours.auc, ours.gauc, ours.deciles) == (theirs.auc, theirs.gauc, theirs.deciles)


def test_weights_of_one_change_nothing() -> None:
    """A task that may have weights is measured as one that has none, to the last digit."""
    predictions = evaluations.example()
    weighted = [Task(f"task-{number}", f"label-{number}", base_rate=0.5, weight="weight") for number in range(3)]
    found, expected = (evaluations.evaluate([predictions], tasks=tasks) for tasks in (weighted, ()))
    assert found.tasks == expected.tasks
    for key, estimates in expected.estimates.items():
        np.testing.assert_array_equal(found.estimates[key].influence, estimates.influence)


def evaluate_share(ranks: Ranks) -> Evaluation:
    """Every rank's rows of the example."""
    predictions = example()
    mine = evaluations.select(predictions, torch.arange(ranks.rank, len(predictions.rows), ranks.world_size))
    return evaluations.evaluate([mine], ranks, batch_size=2 * evaluations.ROWS, tasks=TASKS)


def test_ranks_make_no_difference(rank_pool: RankPool) -> None:
    expected = evaluations.evaluate([example()], tasks=TASKS)
    for found in rank_pool.run(2, evaluate_share):
        for key, estimates in expected.estimates.items():
            np.testing.assert_allclose(found.estimates[key].values, estimates.values, rtol=1e-7)
            np.testing.assert_allclose(found.estimates[key].influence, estimates.influence, atol=1e-7)
        ours, theirs = found.tasks[1], expected.tasks[1]
        assert isinstance(ours, RegressionEvaluation)
        assert isinstance(theirs, RegressionEvaluation)
        assert ours.deciles == theirs.deciles


def test_what_is_not_defined_is_none() -> None:
    """All labels equal; a prediction that is not finite; no row."""
    predictions = example()
    tasks = [Task(f"task-{number}", f"label-{number}", kind="regression") for number in range(3)]
    predictions.labels[:, 0] = 0.1
    predictions.labels[:, 1] += torch.arange(len(predictions.rows))
    predictions.logits[7, 1], predictions.weights[7, 1] = torch.nan, 1.0
    predictions.weights[:, 2] = 0
    equal, not_finite, empty = evaluations.evaluate([predictions], tasks=tasks).tasks
    for task in (equal, not_finite, empty):
        assert isinstance(task, RegressionEvaluation)
        assert (task.nmse, task.xauc) == (None, None)
    assert isinstance(equal, RegressionEvaluation)
    assert equal.mae is not None
    assert empty.rows == 0


def test_sums_of_an_earlier_version() -> None:
    """Its checkpoints have four columns, of rows of weight 1."""
    sums = MetricSums(["binary"] * 3, torch.device("cpu"))
    sums.update(evaluations.example())
    assert torch.equal(in_this_versions_columns(sums.sums[..., :4]), sums.sums)
