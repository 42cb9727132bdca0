"""Buckets and halves of clusters."""

import pytest
import torch

from dlrm_mtl.metrics.buckets import bucket_of, half_of
from tests.metrics.test_sums import keys_of


@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize("stride", [1, 1000, 2**40])
def test_bucket_sizes_are_those_of_chance(stride: int, mixed: bool) -> None:
    """Variance and mean of Poisson sizes are equal; their ratio has a standard deviation of 0.045 over 1000 buckets.
    Whether keys are mixed already does not matter."""
    keys = torch.arange(100_000) * stride
    counts = torch.bincount(bucket_of(keys_of(keys) if mixed else keys, 1000), minlength=1000).double()
    assert len(counts) == 1000
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.2)


def test_halves_are_independent_of_buckets() -> None:
    keys = keys_of(torch.arange(200_000))
    half, bucket = half_of(keys).double(), bucket_of(keys, 1000)
    assert half.mean() == pytest.approx(0.5, abs=0.006)
    by_bucket = torch.zeros(1000, dtype=torch.float64).index_add_(0, bucket, half) / torch.bincount(bucket)
    # Of 200 rows each: as far from a half as coins.
    assert by_bucket.var() == pytest.approx(0.25 / 200, rel=0.2)
