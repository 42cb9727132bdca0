"""Checks of estimates against what they approximate: the metric itself, with every bucket weighed."""

from collections.abc import Callable

import numpy as np
import pytest

from dlrm_mtl.metrics.estimates import Estimates, FloatArray

Weighted = Callable[[FloatArray], float]
"""A metric in float64, of (K,) weights of the buckets."""


def assert_estimates(found: Estimates, weighted: Weighted, jackknife: float) -> None:
    """The value of one task, its influence by differences, and its variance against leaving out bucket by bucket.

    Args:
        jackknife: by how much the two variances may differ, relatively.
    """
    buckets, step = len(found.influence), 1e-4
    whole = np.ones(buckets)
    assert found.values[0] == pytest.approx(weighted(whole), rel=1e-9)
    with_rows = np.flatnonzero(found.influence[:, 0])
    for bucket in with_rows:
        change = np.zeros(buckets)
        change[bucket] = step
        slope = (weighted(whole + change) - weighted(whole - change)) / (2 * step)
        assert found.influence[bucket, 0] == pytest.approx(slope, rel=1e-5, abs=1e-9)
    assert found.influence.sum() == pytest.approx(0, abs=1e-10)
    left_out = np.array([weighted(whole - (np.arange(buckets) == bucket)) for bucket in with_rows])
    count = len(with_rows)
    expected = (count - 1) / count * np.square(left_out - left_out.mean()).sum()
    assert found.variance()[0] == pytest.approx(expected, rel=jackknife)
    assert found.buckets()[0] == count
