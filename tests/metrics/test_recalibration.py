"""NE after recalibration: the bias by another solver, influence by weighting buckets of both halves."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import minimize_scalar

from dlrm_mtl.metrics.estimates import FloatArray
from dlrm_mtl.metrics.predictions.recalibration import recalibrate
from dlrm_mtl.metrics.predictions.rows import Rows
from tests.metrics.influences import assert_estimates
from tests.metrics.rows import example, rows_of

Mask = npt.NDArray[np.bool_]


def losses(logits: FloatArray, positive: FloatArray) -> FloatArray:
    return np.logaddexp(0, logits) - positive * logits


def fit(rows: Rows, fitted: Mask, weights: FloatArray) -> float:
    """By bisection of the weighted mean error."""
    logits, positive, weights = rows.logits.astype(float)[fitted], rows.positive[fitted], weights[fitted]
    low, high = -50.0, 50.0
    for _ in range(80):
        middle = (low + high) / 2
        error = (weights * (1 / (1 + np.exp(-logits - middle)) - positive)).sum()
        low, high = (low, middle) if error > 0 else (middle, high)
    return low


def recalibrated_ne(rows: Rows, fitted: Mask, weights: FloatArray) -> float:
    rest = ~fitted
    positive, of_rest = rows.positive[rest].astype(float), weights[rest]
    loss = (of_rest * losses(rows.logits.astype(float)[rest] + fit(rows, fitted, weights), positive)).sum()
    rate = (of_rest * positive).sum() / of_rest.sum()
    return float(loss / of_rest.sum() / -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate)))


@pytest.mark.parametrize("weighted", [False, True])
def test_estimates(weighted: bool) -> None:
    rows, clusters = example(weighted=weighted)
    fitted = clusters % 2 == 0
    found = recalibrate(rows, fitted)
    assert found.bias == pytest.approx(fit(rows, fitted, rows.weights), abs=1e-9)
    of_fit = rows.weights[fitted]
    best = minimize_scalar(lambda bias: (of_fit * losses(rows.logits[fitted] + bias, rows.positive[fitted])).sum())
    assert found.bias == pytest.approx(best.x, abs=1e-6)
    assert_estimates(
        found.ne, lambda weights: recalibrated_ne(rows, fitted, rows.weights * weights[rows.buckets]), jackknife=0.15
    )


@pytest.mark.parametrize("shift", [-40.0, 3.0, 25.0])
def test_a_bias_is_taken_back(shift: float) -> None:
    rows, clusters = example()
    shifted = replace(rows, logits=rows.logits + np.float32(shift))
    expected, found = (recalibrate(each, clusters % 2 == 0) for each in (rows, shifted))
    assert expected.bias is not None
    assert found.bias == pytest.approx(expected.bias - shift, abs=1e-5)
    assert found.ne.values[0] == pytest.approx(expected.ne.values[0], abs=1e-6)


def test_constant_predictions() -> None:
    rows = rows_of(np.full(8, -3.0), np.arange(8) % 4 < 2)
    found = recalibrate(rows, np.arange(8) < 4)
    assert found.bias == pytest.approx(3.0, abs=1e-9)
    assert found.ne.values[0] == pytest.approx(1)


@pytest.mark.parametrize("positive", [[1, 1, 0, 1], [0, 1, 0, 0], [0, 0, 1, 1]])
def test_a_half_of_one_class_has_none(positive: list[int]) -> None:
    rows = rows_of(np.arange(4), positive)
    found = recalibrate(rows, np.array([True, True, False, False]))
    assert found.bias is None
    assert np.isnan(found.ne.values).all()
