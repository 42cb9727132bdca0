"""Estimates: weighted over tasks, and on some buckets of rows."""

import numpy as np
import pytest

from dlrm_mtl.metrics.bucket_sums import normalized_entropy, normalized_entropy_estimates
from dlrm_mtl.metrics.estimates import Estimates, FloatArray, combine, on_buckets


def two_models(rows: int = 20_000, buckets: int = 500, seed: int = 0) -> list[FloatArray]:
    """(K, 2, 4) sums of two models on the same rows of two tasks, the second with few positives and rows."""
    generator = np.random.default_rng(seed)
    truth = generator.normal([-1.0, -4.0], 1.0, (rows, 2))
    labels = generator.random((rows, 2)) < 1 / (1 + np.exp(-truth))
    defined = np.stack([np.ones(rows), generator.random(rows) < 0.5], axis=1)
    where = generator.integers(buckets, size=rows)
    sums = []
    for noise in (0.3, 0.5):
        logits = truth + noise * generator.normal(size=truth.shape)
        log_loss = np.logaddexp(0, logits) - labels * logits
        columns = np.stack([defined, defined * labels, defined * log_loss, defined / (1 + np.exp(-logits))], axis=2)
        of_buckets = np.zeros((buckets, 2, 4))
        np.add.at(of_buckets, where, columns)
        sums.append(of_buckets)
    return sums


def test_half_of_the_buckets_is_half_of_the_rows() -> None:
    """The difference of two models on half of the rows, to first order, with its error there."""
    control, arm = two_models()
    half = np.arange(500) % 2 == 0
    gain = combine([100.0, -100.0], [normalized_entropy_estimates(sums) for sums in (control, arm)])
    found = on_buckets(gain, half)
    direct = combine([100.0, -100.0], [normalized_entropy_estimates(sums[half]) for sums in (control, arm)])
    expected = 100 * (normalized_entropy(control[half].sum(axis=0)) - normalized_entropy(arm[half].sum(axis=0)))
    np.testing.assert_array_less(np.abs(found.values - expected), 0.15 * np.sqrt(direct.variance()))
    np.testing.assert_allclose(found.variance(), direct.variance(), rtol=0.1)
    np.testing.assert_allclose(found.influence.sum(axis=0), 0, atol=1e-10)
    assert not found.influence[~half].any()
    # Far from the value on all rows.
    assert (np.abs(found.values - gain.values) > 0.2 * np.sqrt(direct.variance())).all()


def test_halves_are_independent_of_each_other() -> None:
    """The halves add up to the whole, and their errors add up like those of two samples."""
    gains = []
    for seed in range(60):
        control, arm = two_models(rows=2_000, buckets=100, seed=seed)
        gain = combine([100.0, -100.0], [normalized_entropy_estimates(sums) for sums in (control, arm)])
        half = np.arange(100) % 2 == 0
        gains.append([on_buckets(gain, chosen).values[0] for chosen in (half, ~half)])
    assert abs(np.corrcoef(np.array(gains).T)[0, 1]) < 0.3


def test_a_task_without_rows_in_the_buckets_has_no_value_there() -> None:
    estimates = Estimates(np.array([1.0, 2.0]), np.array([[0.5, 0.0], [-0.5, 0.3], [0.0, -0.3]]))
    found = on_buckets(estimates, np.array([True, False, False]))
    assert np.isnan(found.values[1])
    assert found.buckets().tolist() == [0, 0]


def test_weights_over_tasks() -> None:
    estimates = Estimates(np.array([1.0, np.nan, 3.0]), np.array([[0.5, 0.0, 0.1], [-0.5, 0.0, -0.1]]))
    weighted = estimates.weighted([0.25, 0.0, 0.75])
    assert weighted.values.tolist() == [2.5]
    np.testing.assert_allclose(weighted.influence, [[0.2], [-0.2]])
    assert np.isnan(estimates.weighted([0.5, 0.5, 0.0]).values[0])


@pytest.mark.parametrize("buckets", [0, 3])
def test_estimates_without_rows_have_no_variance(buckets: int) -> None:
    weighted = Estimates(np.array([1.0, 3.0]), np.zeros((buckets, 2))).weighted([0.5, 0.5])
    assert weighted.values.tolist() == [2.0]
    assert np.isnan(weighted.variance()).all()
