"""AUC, average precision and deciles: values by definition, influence by weighting buckets."""

from collections.abc import Callable

import numpy as np
import pytest

from dlrm_mtl.metrics.estimates import Estimates, FloatArray
from dlrm_mtl.metrics.predictions.ranking import Ranking
from dlrm_mtl.metrics.predictions.rows import Rows
from tests.metrics import rows as by_definition
from tests.metrics.influences import assert_estimates
from tests.metrics.rows import example, rows_of


@pytest.mark.parametrize(("ties", "weighted"), [(True, False), (False, False), (True, True)])
@pytest.mark.parametrize(
    ("estimate", "definition"),
    [(Ranking.auc, by_definition.auc), (Ranking.average_precision, by_definition.average_precision)],
)
def test_estimates(
    estimate: Callable[[Ranking], Estimates],
    definition: Callable[[Rows, FloatArray], float],
    ties: bool,
    weighted: bool,
) -> None:
    rows, _ = example(ties=ties, weighted=weighted)
    found = estimate(Ranking(rows))
    assert_estimates(found, lambda weights: definition(rows, rows.weights * weights[rows.buckets]), jackknife=0.15)


@pytest.mark.parametrize(
    ("logits", "positive", "auc", "auprc", "tied"),
    [
        ([3, 1, 2, 0], [1, 0, 1, 0], 1, 1, 0),
        ([0, 2, 1, 3], [1, 0, 1, 0], 0, (1 / 3 + 2 / 4) / 2, 0),
        ([1, 1, 1, 1], [1, 0, 1, 0], 0.5, 0.5, 1),
        ([2, 1, 2, 0], [1, 1, 0, 0], 0.625, (1 / 2 + 2 / 3) / 2, 0.25),
        ([2, 0, 1], [0, 1, 0], 0, 1 / 3, 0),
    ],
)
def test_few_rows(logits: list[float], positive: list[int], auc: float, auprc: float, tied: float) -> None:
    ranking = Ranking(rows_of(logits, positive))
    assert ranking.auc().values[0] == pytest.approx(auc)
    assert ranking.average_precision().values[0] == pytest.approx(auprc)
    assert ranking.tied_pairs() == tied


@pytest.mark.parametrize(("center", "spread"), [(-2.0, 1e-3), (-18.0, 1.0), (0.0, 50.0)])
def test_auc_of_collapsed_and_far_off_logits(center: float, spread: float) -> None:
    generator = np.random.default_rng(0)
    score = generator.normal(size=3000)
    positive = generator.random(3000) < 1 / (1 + np.exp(-score))
    rows = rows_of(center + spread * score, positive)
    assert Ranking(rows).auc().values[0] == pytest.approx(by_definition.auc(rows, np.ones(3000)), abs=1e-9)


def test_deciles() -> None:
    rows, _ = example(1003, ties=False, weighted=True)
    deciles = Ranking(rows).deciles()
    assert [decile.rows for decile in deciles] == [101] * 3 + [100] * 7
    order, start = np.argsort(rows.logits), 0
    for decile in deciles:
        tenth = order[start : start + decile.rows]
        weights, predicted = rows.weights[tenth], 1 / (1 + np.exp(-rows.logits[tenth].astype(float)))
        assert decile.rate == pytest.approx(weights @ rows.positive[tenth] / weights.sum())
        assert decile.predicted == pytest.approx(weights @ predicted / weights.sum())
        start += decile.rows
    assert [decile.rows for decile in Ranking(rows_of([1, 0, 2], [1, 0, 0])).deciles()] == [1, 1, 1]
