"""AUC by user: values by comparing every pair, influence by weighting buckets of users."""

import numpy as np
import pytest

from dlrm_mtl.metrics.estimates import FloatArray
from dlrm_mtl.metrics.grouped_auc import grouped_auc
from dlrm_mtl.metrics.ranking import Rows
from tests.metrics import rows as by_definition
from tests.metrics.influences import assert_estimates
from tests.metrics.rows import CLUSTERS, example, of_cluster


@pytest.mark.parametrize("ties", [True, False])
def test_estimates(ties: bool) -> None:
    rows, clusters = example(ties=ties)
    parts = [of_cluster(rows, clusters == cluster) for cluster in range(CLUSTERS)]
    both = [part for part in parts if part.positive.any() and not part.positive.all()]
    assert 20 < len(both) < CLUSTERS
    aucs = np.array([by_definition.auc(part, np.ones(len(part.positive))) for part in both])
    sizes = np.array([float(len(part.positive)) for part in both])
    buckets = np.array([part.buckets[0] for part in both])

    def average(weights: FloatArray) -> float:
        return float((weights * aucs).sum() / weights.sum())

    gauc, uauc, users = grouped_auc(rows, clusters)
    assert users == len(both)
    assert_estimates(gauc, lambda weights: average(weights[buckets] * sizes), jackknife=0.15)
    assert_estimates(uauc, lambda weights: average(weights[buckets]), jackknife=0.15)


def test_users_of_one_class_have_none() -> None:
    rows = Rows(np.zeros(4, np.float32), np.array([True, True, False, False]), np.arange(4), 4)
    gauc, uauc, users = grouped_auc(rows, np.array([0, 0, 1, 1]))
    assert users == 0
    for found in (gauc, uauc):
        assert np.isnan(found.values).all()
        assert not found.influence.any()


def test_precise_among_many_rows() -> None:
    """A user's rows are counted among all earlier rows, and other users' are subtracted."""
    rows, clusters = example(600)
    many = Rows(np.tile(rows.logits, 500), np.tile(rows.positive, 500), np.tile(rows.buckets, 500), rows.num_buckets)
    numbers = (clusters + CLUSTERS * np.arange(500)[:, None]).ravel()
    for one, all_copies in zip(grouped_auc(rows, clusters)[:2], grouped_auc(many, numbers)[:2], strict=True):
        assert all_copies.values[0] == pytest.approx(one.values[0], rel=1e-11)
