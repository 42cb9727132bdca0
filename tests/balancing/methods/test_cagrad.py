"""CAGrad against a one-dimensional search over non-negative least-squares problems on explicit vectors."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from dlrm_mtl.balancing import create_balancer
from tests.balancing.methods.cases import CASES, TASKS, fresh, gradients
from tests.balancing.methods.simplex_reference import nearest_weights
from tests.balancing.reference import Array
from tests.messages import naming


def objective(weights: Array, rows: Array, c: float) -> float:
    """w' V' g_0 + c |g_0| |V w|."""
    mean = rows.mean(axis=0)
    combined = weights @ rows
    return float(combined @ mean + c * np.linalg.norm(mean) * np.linalg.norm(combined))


def smallest(rows: Array, c: float) -> float:
    """Its minimum over the simplex. |V w| is the minimum over t of (|V w|^2 / t + t) / 2; with t fixed, the rest is the
    square of |V w + (t / kappa) g_0|, up to constants."""
    mean = rows.mean(axis=0)
    radius = c * np.linalg.norm(mean)

    def value(logarithm: float) -> float:
        weights = nearest_weights(rows + np.exp(logarithm) / radius * mean)
        return objective(weights, rows, c)

    norms = np.linalg.norm(rows, axis=1)
    grid = np.linspace(np.log(norms.min()) - 12, np.log(norms.max()) + 3, 80)
    best = int(np.argmin([value(point) for point in grid]))
    bracket = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    actual = minimize_scalar(value, bounds=bracket, method="bounded", options={"xatol": 1e-10})
    return min(float(actual.fun), value(grid[best]))


@pytest.mark.parametrize("c", [0.1, 0.4, 0.9, 3.0])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("num_tasks", TASKS)
def test_reference(num_tasks: int, case: str, c: float) -> None:
    rows = gradients(case, num_tasks)
    balancer = create_balancer("cagrad", num_tasks, c=c, rescale="none")
    actual = balancer.combine(torch.from_numpy(rows)).numpy()
    weights = balancer.task_weights().numpy()
    assert (weights >= 0).all()
    assert abs(weights.sum() - 1) <= 1e-12
    mean, scale = rows.mean(axis=0), np.linalg.norm(rows.mean(axis=0)) * np.linalg.norm(rows, axis=1).min()
    assert objective(weights, rows, c) <= smallest(rows, c) + 1e-8 * scale
    # d is g_0 plus a step of length kappa towards V w.
    toward = weights @ rows
    expected = mean + c * np.linalg.norm(mean) * toward / np.linalg.norm(toward)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9 * float(np.linalg.norm(mean)))


@pytest.mark.parametrize("c", [0.4, 0.9])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("num_tasks", TASKS)
def test_strong_duality(num_tasks: int, case: str, c: float) -> None:
    """The gain of the worst task is the minimum over w, so no direction within the ball improves it more."""
    rows = gradients(case, num_tasks)
    direction = fresh("cagrad", rows, c=c, rescale="none") @ rows
    scale = np.linalg.norm(rows.mean(axis=0)) * np.linalg.norm(rows, axis=1).max()
    assert (rows @ direction).min() == pytest.approx(smallest(rows, c), abs=1e-8 * scale)
    mean = rows.mean(axis=0)
    assert np.linalg.norm(direction - mean) <= c * np.linalg.norm(mean) * (1 + 1e-9)


def test_rescales() -> None:
    rows = gradients("generic", 3)
    plain = fresh("cagrad", rows, c=0.5, rescale="none")
    np.testing.assert_allclose(fresh("cagrad", rows, c=0.5), plain / 1.5, rtol=1e-14)
    np.testing.assert_allclose(fresh("cagrad", rows, c=0.5, rescale="official"), plain / 1.25, rtol=1e-14)


def test_without_a_radius_it_is_the_mean() -> None:
    np.testing.assert_allclose(fresh("cagrad", gradients("conflicting", 5), c=0.0), np.full(5, 0.2), rtol=1e-14)


def test_a_large_radius_points_along_mgda() -> None:
    rows = gradients("generic", 3)
    direction, expected = fresh("cagrad", rows, c=1e6) @ rows, fresh("mgda", rows) @ rows
    np.testing.assert_allclose(
        direction / np.linalg.norm(direction), expected / np.linalg.norm(expected), rtol=0, atol=1e-5
    )


def test_stationary_gradients_give_nothing() -> None:
    rows = gradients("generic", 3)
    rows -= rows.mean(axis=0)
    actual = fresh("cagrad", rows)
    assert np.isfinite(actual).all()
    assert np.linalg.norm(actual @ rows) <= 1e-6 * np.linalg.norm(rows)


def test_more_tasks_than_can_be_enumerated() -> None:
    with pytest.raises(ValueError, match=naming("num_tasks", 9, 8)):
        create_balancer("cagrad", 9)
