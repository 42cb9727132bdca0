"""NE and calibration from bucket sums: influence against slightly larger weights of one bucket."""

from collections.abc import Callable

import numpy as np
import pytest

from dlrm_mtl.metrics.bucket_sums import log_calibration_estimates, normalized_entropy, normalized_entropy_estimates
from dlrm_mtl.metrics.estimates import Estimates, FloatArray


def sums(buckets: int = 40) -> FloatArray:
    """Of three tasks, the last without positives; some buckets are empty."""
    generator = np.random.default_rng(0)
    rows = generator.poisson(3.0, (buckets, 3)).astype(float)
    positives = generator.binomial(rows.astype(int), [0.3, 0.05, 0.0]).astype(float)
    return np.stack([rows, positives, rows * generator.uniform(0.1, 0.9, rows.shape), rows * 0.21], axis=2)


def log_calibration(totals: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore"):
        return np.log(totals[:, 3]) - np.log(totals[:, 1])


@pytest.mark.parametrize(
    ("estimate", "value"),
    [(normalized_entropy_estimates, normalized_entropy), (log_calibration_estimates, log_calibration)],
)
def test_influence_is_what_a_bucket_changes(
    estimate: Callable[[FloatArray], Estimates], value: Callable[[FloatArray], FloatArray]
) -> None:
    found, step = estimate(sums()), 1e-5
    np.testing.assert_allclose(found.values[:2], value(sums().sum(axis=0))[:2], rtol=1e-14)
    for bucket in range(40):
        more, less = (value(sums().sum(axis=0) + sign * step * sums()[bucket])[:2] for sign in (1, -1))
        np.testing.assert_allclose(found.influence[bucket, :2], (more - less) / (2 * step), rtol=1e-6, atol=1e-10)
    np.testing.assert_allclose(found.influence.sum(axis=0), 0, atol=1e-12)
    assert np.isnan(found.values[2])
    assert not found.influence[:, 2].any()


def test_predictions_that_are_not_finite_have_no_estimate() -> None:
    broken = sums()
    broken[3, 0, 2:] = np.nan
    for found in (normalized_entropy_estimates(broken), log_calibration_estimates(broken)):
        assert np.isnan(found.values[0])
        assert not found.influence[:, 0].any()
        assert np.isfinite(found.values[1])
