"""Kept predictions of an evaluation: whole clusters, as many as fit, for any batches."""

import numpy as np
import pytest
import torch

from dlrm_mtl.metrics.predictions.kept import CELLS, KeptPredictions, Sample
from tests.metrics.evaluations import ROWS, example, in_batches, select
from tests.metrics.kinds import binary_tasks
from tests.metrics.test_sums import keys_of

KEEP = 1000
"""Number of rows that fit."""


def kept(size: int, rows: int, order: torch.Tensor | None = None) -> Sample:
    predictions = example() if order is None else select(example(), order)
    keeping = KeptPredictions(binary_tasks(3), size, 3 * rows)
    for batch in in_batches(predictions, size):
        keeping.add(batch, None)
    sample = keeping.gather(None)
    assert sample is not None
    return sample


def test_all_is_kept_where_it_fits() -> None:
    predictions, sample = example(), kept(100, ROWS)
    assert sample.clusters_share == 1
    np.testing.assert_array_equal(sample.logits, predictions.logits.numpy())
    np.testing.assert_array_equal(sample.keys, predictions.context[:, 0].numpy())
    np.testing.assert_array_equal(sample.weights, predictions.weights.numpy())
    np.testing.assert_array_equal(sample.labels, predictions.labels.numpy() * (predictions.weights.numpy() > 0))
    assert sample.labels.dtype == sample.weights.dtype == np.uint8


def test_whole_clusters_are_kept_as_many_as_fit() -> None:
    keys, sample = example().context[:, 0].numpy(), kept(100, KEEP)
    chosen = np.unique(sample.keys)
    assert len(sample.keys) == np.isin(keys, chosen).sum() <= KEEP
    # Those below a threshold; the next one would not have fitted.
    cells = (keys >> 1) % CELLS
    threshold = sample.clusters_share * CELLS
    assert (cells < threshold).sum() == len(sample.keys)
    assert (cells <= cells[cells >= threshold].min()).sum() > KEEP
    # The expected share, within three standard deviations.
    all_clusters = len(np.unique(keys))
    assert len(chosen) == pytest.approx(sample.clusters_share * all_clusters, abs=3 * np.sqrt(0.25 * all_clusters))


@pytest.mark.parametrize("size", [1, 37, ROWS])
@pytest.mark.parametrize("shuffled", [False, True])
def test_batches_and_their_order_make_no_difference(size: int, shuffled: bool) -> None:
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(2)) if shuffled else None
    expected, found = kept(100, KEEP), kept(size, KEEP, order)
    assert found.clusters_share == expected.clusters_share < 1
    for name in ("logits", "labels", "weights", "keys"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_memory_is_bounded_on_the_way() -> None:
    """Never more than a quarter and one batch above the limit."""
    keeping = KeptPredictions(binary_tasks(3), 50, 3 * KEEP)
    most = 0
    for batch in in_batches(example(), 50):
        keeping.add(batch, None)
        most = max(most, keeping.rows)
    assert KEEP <= most <= 1.25 * KEEP + 50


def test_a_cluster_that_does_not_fit_is_left_out() -> None:
    predictions = example()
    predictions.context = keys_of(torch.zeros(ROWS, dtype=torch.int64) + 3)[:, None]
    keeping = KeptPredictions(binary_tasks(3), ROWS, 3 * KEEP)
    keeping.add(predictions, None)
    sample = keeping.gather(None)
    assert sample is not None
    assert len(sample.keys) == 0
    assert sample.clusters_share < 1
