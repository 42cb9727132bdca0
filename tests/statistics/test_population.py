"""The truth of the simulations, against drawn rows."""

import numpy as np
import pytest
from scipy import special, stats

from tests.statistics.population import Population


@pytest.mark.parametrize(("rate", "user_error"), [(0.3, 0.0), (0.025, 0.0), (0.3, 1.0)])
def test_metrics_on_endless_rows_are_those_of_many(rate: float, user_error: float) -> None:
    rows, variance, generator = 300_000, 0.3, np.random.default_rng(0)
    population = Population(rate, user_error)
    known = population.intercept + generator.standard_normal(rows)
    labels = generator.random(rows) < special.expit(known + user_error * generator.standard_normal(rows))
    logits = known + np.sqrt(variance) * generator.standard_normal(rows)
    base = labels.mean()
    entropy = -(base * np.log(base) + (1 - base) * np.log1p(-base))
    auc = stats.mannwhitneyu(logits[labels], logits[~labels]).statistic / (labels.sum() * (~labels).sum())
    precision = np.cumsum(labels[np.argsort(-logits)]) / np.arange(1, rows + 1)
    expected = population.metrics_at(variance)
    assert base == pytest.approx(rate, rel=0.02)
    assert (np.logaddexp(0, logits) - labels * logits).mean() / entropy == pytest.approx(expected["ne"], abs=0.008)
    assert auc == pytest.approx(expected["auc"], abs=0.008)
    assert precision[labels[np.argsort(-logits)]].mean() == pytest.approx(expected["auprc"], rel=0.08)
    assert special.expit(logits).mean() / base == pytest.approx(expected["calibration"], rel=0.02)
    assert expected["recalibrated_ne"] < expected["ne"]
