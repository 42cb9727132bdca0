"""An evaluation as a whole: every number against its definition, on any ranks, in any batches."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from dlrm_mtl.data.context import Context
from dlrm_mtl.metrics.buckets import BUCKETS, bucket_of, half_of
from dlrm_mtl.metrics.estimates import FloatArray
from dlrm_mtl.metrics.evaluation import SEGMENT_BUCKETS, Evaluation, side_by_side
from dlrm_mtl.metrics.predictions.rows import Rows
from dlrm_mtl.models.ranker import Predictions
from tests.metrics import evaluations
from tests.metrics import rows as by_definition
from tests.metrics.evaluations import CONTEXT, ROWS, evaluate, example, in_batches, select
from tests.metrics.kinds import evaluated
from tests.metrics.test_recalibration import recalibrated_ne
from tests.metrics.test_sums import by_hand
from tests.ranks import RankPool

METRICS = ["ne", "log_calibration", "auc", "auprc", "recalibrated_ne", "gauc", "uauc"]
NUMBERS = ["ne", "auc", "auprc", "recalibrated_ne", "gauc", "uauc"]


@pytest.fixture(scope="module")
def whole() -> Evaluation:
    return evaluate([example()])


def rows_of(predictions: Predictions, task: int) -> tuple[Rows, npt.NDArray[np.int64]]:
    defined = predictions.weights[:, task] > 0
    keys = predictions.context[defined, 0]
    labels, logits = predictions.labels[defined, task].numpy() > 0, predictions.logits[defined, task].numpy()
    rows = Rows(
        logits=logits,
        positive=labels,
        weights=predictions.weights[defined, task].double().numpy(),
        buckets=bucket_of(keys, BUCKETS).numpy(),
        num_buckets=BUCKETS,
    )
    return rows, keys.numpy()


def assert_same(found: Evaluation, expected: Evaluation) -> None:
    """Up to the rounding of float32 in losses and predictions, which depends on a row's place in a vector."""
    for of_found, of_expected in (
        (found.estimates, expected.estimates),
        (found.product_estimates, expected.product_estimates),
    ):
        assert list(of_found) == list(of_expected)
        for key, estimates in of_expected.items():
            rounding = 1e-7 if key in ("ne", "log_calibration") else 1e-12
            np.testing.assert_allclose(of_found[key].values, estimates.values, rtol=rounding, err_msg=key)
            np.testing.assert_allclose(of_found[key].influence, estimates.influence, rtol=0, atol=rounding)
    assert list(found.products) == list(expected.products)
    for ours, theirs in zip(
        *(evaluated([*each.tasks, *each.products.values()]) for each in (found, expected)), strict=True
    ):
        assert (ours.rows, ours.positives, ours.users) == (theirs.rows, theirs.positives, theirs.users)
        assert ours.deciles == theirs.deciles
        assert ours.users_share == theirs.users_share
        assert ours.rows_share == theirs.rows_share
    for name, values in expected.segments.items():
        for value, segment in values.items():
            assert found.segments[name][value].rows == segment.rows
            np.testing.assert_allclose(found.segments[name][value].ne.values, segment.ne.values, rtol=1e-7)


@pytest.mark.parametrize("task", [0, 1, 2])
def test_numbers_equal_their_definitions(whole: Evaluation, task: int) -> None:
    predictions, found = example(), evaluated(whole.tasks)[task]
    rows, keys = rows_of(predictions, task)
    ones: FloatArray = np.ones(len(keys))
    expected = by_hand(predictions, task)
    assert (found.rows, found.positives) == (expected["rows"], expected["positives"])
    assert found.ne == pytest.approx(expected["ne"], rel=1e-6)
    assert found.calibration == pytest.approx(expected["calibration"], rel=1e-6)
    assert found.auc == pytest.approx(expected["auc"], abs=1e-12)
    pairs = rows.logits[rows.positive][:, None] == rows.logits[~rows.positive]
    assert found.tied_pairs == pytest.approx(pairs.mean(), rel=1e-12)
    assert found.auprc == pytest.approx(by_definition.average_precision(rows, ones), rel=1e-9)
    fitted = half_of(torch.from_numpy(keys)).numpy()
    assert found.recalibrated_ne == pytest.approx(recalibrated_ne(rows, fitted, ones), rel=1e-9)
    users = [by_definition.of_cluster(rows, keys == key) for key in np.unique(keys)]
    both = [user for user in users if user.positive.any() and not user.positive.all()]
    aucs = [by_definition.auc(user, np.ones(len(user.positive))) for user in both]
    assert found.users == len(both)
    assert found.gauc == pytest.approx(np.average(aucs, weights=[len(user.positive) for user in both]), rel=1e-9)
    assert found.uauc == pytest.approx(np.mean(aucs), rel=1e-9)
    assert sum(decile.rows for decile in found.deciles) == found.rows
    assert (found.users_share, found.rows_share) == (1, 1)
    bounds, error = found.calibration_interval, np.sqrt(whole.estimates["log_calibration"].variance()[task])
    assert bounds is not None
    assert found.calibration is not None
    assert bounds.low == pytest.approx(found.calibration * np.exp(-1.96 * error), rel=0.02)
    assert bounds.high == pytest.approx(found.calibration * np.exp(1.96 * error), rel=0.02)


def test_a_product_is_a_task_of_all_rows(whole: Evaluation) -> None:
    """Click and conversion, whose probability is the product of both, in float64."""
    predictions, found = example(), evaluated([whole.products["conversion"]])[0]
    click, _, conversion = predictions.logits.double().sigmoid().unbind(dim=1)
    product = replace(
        predictions,
        logits=torch.logit(click * conversion)[:, None],
        labels=(predictions.labels[:, 0] * predictions.labels[:, 2])[:, None],
        weights=torch.ones(ROWS, 1),
    )
    expected = by_hand(product, 0)
    assert (found.rows, found.positives) == (ROWS, expected["positives"])
    assert found.ne == pytest.approx(expected["ne"], rel=1e-6)
    assert found.auc == pytest.approx(expected["auc"], abs=1e-6)  # rounded to float32, two predictions may be equal
    assert found.calibration == pytest.approx(expected["calibration"], rel=1e-6)
    assert list(whole.product_estimates) == METRICS
    for key in NUMBERS:
        assert whole.product_estimates[key].values.tolist() == [getattr(found, key)]
    assert whole.sums.shape[1] == len(whole.tasks) == 3


def test_estimates_are_those_of_the_numbers(whole: Evaluation) -> None:
    assert list(whole.estimates) == METRICS
    for key in METRICS:
        estimates = whole.estimates[key]
        assert estimates.influence.shape == (BUCKETS, 3)
        np.testing.assert_allclose(estimates.influence.sum(axis=0), 0, atol=1e-10)
        if key in NUMBERS:
            np.testing.assert_allclose(estimates.values, [getattr(task, key) for task in whole.tasks], rtol=1e-12)
    # Two of three clusters have rows of the rarest task, and some share a bucket.
    assert (whole.estimates["ne"].buckets() > 200).all()


def test_segments_are_evaluations_of_their_rows(whole: Evaluation) -> None:
    predictions = example()
    assert {name: list(values) for name, values in whole.segments.items()} == {
        segment.name: list(segment.values) for segment in CONTEXT.segments
    }
    for column, segment in enumerate(CONTEXT.segments, 1):
        for code, value in enumerate(segment.values):
            found, which = whole.segments[segment.name][value], predictions.context[:, column] == code
            alone = evaluate([select(predictions, which)])
            assert found.rows == which.sum()
            np.testing.assert_allclose(found.ne.values, alone.estimates["ne"].values, rtol=1e-7)
            assert found.ne.influence.shape == (SEGMENT_BUCKETS, 3)
            np.testing.assert_allclose(found.ne.variance(), alone.estimates["ne"].variance(), rtol=0.5)


@pytest.mark.parametrize("size", [1, 64])
def test_batches_make_no_difference(whole: Evaluation, size: int) -> None:
    assert_same(evaluate(in_batches(example(), size), batch_size=size), whole)


@pytest.mark.parametrize(("world_size", "share"), [(2, 1.0), (3, 0.4)])
def test_ranks_make_no_difference(rank_pool: RankPool, world_size: int, share: float) -> None:
    limit = int(3 * ROWS * share)
    expected = evaluate([example()], limit=limit)
    for found in rank_pool.run(world_size, evaluations.evaluate_share, limit):
        assert_same(found, expected)


def test_of_many_rows_a_sample_of_users_is_measured(whole: Evaluation) -> None:
    sampled = evaluate([example()], limit=3 * ROWS // 2)
    np.testing.assert_array_equal(sampled.estimates["ne"].values, whole.estimates["ne"].values)
    for found, all_rows in zip(evaluated(sampled.tasks), evaluated(whole.tasks), strict=True):
        assert found.rows == all_rows.rows
        assert 0.3 < found.rows_share <= 0.6
        assert 0.3 < found.users_share < 0.7
        assert found.users is not None
        assert all_rows.users is not None
        assert found.users < all_rows.users
    # Fewer users, larger errors.
    for key in ("auc", "uauc"):
        assert (sampled.estimates[key].variance()[:2] > 1.2 * whole.estimates[key].variance()[:2]).all()


def test_rows_without_a_cluster_have_no_metrics_of_users() -> None:
    found = evaluate([example()], context=Context("", ()))
    assert list(found.estimates) == METRICS[:-2]
    assert found.segments == {}
    assert [(task.users, task.gauc, task.uauc) for task in evaluated(found.tasks)] == [(None, None, None)] * 3


def test_what_is_not_defined_is_none() -> None:
    predictions = example()
    predictions.logits[0, 0] = torch.nan
    predictions.labels[:, 1] = 0
    predictions.weights[:, 2] = 0
    found = evaluate([predictions])
    for task, of_task in enumerate(evaluated(found.tasks)):
        assert [getattr(of_task, key) for key in NUMBERS] == [None] * len(NUMBERS)
        assert of_task.recalibration_bias is None
        assert of_task.deciles == ()
        assert of_task.calibration_interval is None
        assert of_task.rows == (0 if task == 2 else ROWS)
    for estimates in found.estimates.values():
        assert np.isnan(estimates.values).all()
        assert not estimates.influence.any()


def test_models_of_one_task_each_side_by_side(whole: Evaluation) -> None:
    predictions = example()
    names = ("logits", "labels", "weights")
    parts = [
        evaluate([replace(predictions, **{name: getattr(predictions, name)[:, [task]] for name in names})])
        for task in range(3)
    ]
    joined = side_by_side(parts)
    assert_same(joined, replace(whole, products={}, product_estimates={}))
    np.testing.assert_allclose(joined.sums, whole.sums, rtol=1e-6)


@pytest.mark.parametrize(("center", "spread"), [(-2.0, 1e-3), (-18.0, 1.0)])
def test_auc_of_collapsed_and_far_off_logits(center: float, spread: float) -> None:
    predictions = example()
    predictions.logits = center + spread * predictions.logits
    for task, found in enumerate(evaluated(evaluate([predictions]).tasks)):
        assert found.auc == pytest.approx(by_hand(predictions, task)["auc"], abs=1e-9)
