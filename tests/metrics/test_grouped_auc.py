"""AUC by user: values by comparing every pair, influence by weighting buckets of users."""

import numpy as np
import pytest

from dlrm_mtl.metrics.estimates import FloatArray
from dlrm_mtl.metrics.predictions.grouped_auc import grouped_auc
from tests.metrics import rows as by_definition
from tests.metrics.influences import assert_estimates
from tests.metrics.rows import CLUSTERS, example, of_cluster, rows_of


@pytest.mark.parametrize(("ties", "weighted"), [(True, False), (False, False), (True, True)])
def test_estimates(ties: bool, weighted: bool) -> None:
    rows, clusters = example(ties=ties, weighted=weighted)
    parts = [of_cluster(rows, clusters == cluster) for cluster in range(CLUSTERS)]
    both = [part for part in parts if part.positive.any() and not part.positive.all()]
    assert 20 < len(both) < CLUSTERS
    aucs = np.array([by_definition.auc(part, part.weights) for part in both])
    sizes = np.array([part.weights.sum() for part in both])
    buckets = np.array([part.buckets[0] for part in both])

    def average(weights: FloatArray) -> float:
        return float((weights * aucs).sum() / weights.sum())

    gauc, uauc, users = grouped_auc(rows, clusters)
    assert users == len(both)
    assert_estimates(gauc, lambda weights: average(weights[buckets] * sizes), jackknife=0.15)
    assert_estimates(uauc, lambda weights: average(weights[buckets]), jackknife=0.15)


def test_users_of_one_class_have_none() -> None:
    rows = rows_of(np.zeros(4), [1, 1, 0, 0])
    gauc, uauc, users = grouped_auc(rows, np.array([0, 0, 1, 1]))
    assert users == 0
    for found in (gauc, uauc):
        assert np.isnan(found.values).all()
        assert not found.influence.any()


def test_precise_among_many_rows() -> None:
    """A user's rows are counted among all earlier rows, and other users' are subtracted."""
    rows, clusters = example(600)
    many = rows_of(np.tile(rows.logits, 500), np.tile(rows.positive, 500), np.tile(rows.buckets, 500))
    numbers = (clusters + CLUSTERS * np.arange(500)[:, None]).ravel()
    for one, all_copies in zip(grouped_auc(rows, clusters)[:2], grouped_auc(many, numbers)[:2], strict=True):
        assert all_copies.values[0] == pytest.approx(one.values[0], rel=1e-11)
