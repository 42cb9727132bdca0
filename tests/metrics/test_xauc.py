"""XAUC: values by comparing every pair, influence by weighting buckets."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dlrm_mtl.metrics.predictions.rows import LabelledRows
from dlrm_mtl.metrics.predictions.xauc import xauc
from tests.metrics import rows as by_definition
from tests.metrics.influences import assert_estimates
from tests.metrics.rows import regression_example

ROWS = st.tuples(st.integers(-4, 4), st.integers(-4, 4), st.floats(0.125, 8))
"""Prediction, label and weight."""


def test_estimates() -> None:
    rows = regression_example()
    assert_estimates(
        xauc(rows), lambda weights: by_definition.xauc(rows, rows.weights * weights[rows.buckets]), jackknife=0.15
    )


@given(st.lists(ROWS, min_size=1, max_size=30))
def test_every_pair_with_its_weight(values: list[tuple[int, int, float]]) -> None:
    """With ties of predictions and of labels; undefined if all labels are equal."""
    predictions, labels, weights = np.array(values).T
    rows = LabelledRows(
        predictions=predictions.astype(np.float32),
        labels=labels.astype(np.float32),
        weights=weights,
        buckets=np.arange(len(values)),
        num_buckets=len(values),
    )
    found = xauc(rows)
    if len(np.unique(labels)) == 1:
        assert np.isnan(found.values).all()
        return
    np.testing.assert_allclose(found.values, by_definition.xauc(rows, weights), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.influence.sum(), 0, atol=1e-12)
