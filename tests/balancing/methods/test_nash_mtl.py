"""Nash-MTL against a general root finder on explicit unit vectors."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import least_squares

from dlrm_mtl.balancing import create_balancer
from tests.balancing.methods.cases import CASES, TASKS, fresh, gradients, quick
from tests.balancing.reference import Array


def bargain(rows: Array) -> Array:
    """a > 0 with <g_m, sum of a_k g_k> = 1 / a_m, scaled to sum 1. Followed from orthogonal gradients, where a is
    known, to the given ones; at each stop by Levenberg-Marquardt in the logarithms of a."""
    norms = np.linalg.norm(rows, axis=1)
    units = rows / norms[:, None]
    logarithms = np.zeros(len(rows))
    for share in (0.3, 0.6, 0.8, 0.9, 0.95, 0.98, 0.99, 0.997, 0.999, 0.9997, 0.9999, 0.99999, 1.0):
        # Each gradient has a part along an axis of its own.
        mixed = np.hstack([np.sqrt(share) * units, np.sqrt(1 - share) * np.eye(len(rows))])

        def residual(x: Array, vectors: Array = mixed) -> Array:
            shares = np.exp(x)
            result: Array = shares * (vectors @ (shares @ vectors)) - 1
            return result

        actual = least_squares(residual, logarithms, method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=20_000)
        logarithms = actual.x
    assert np.abs(residual(logarithms)).max() <= 1e-9
    weights: Array = np.exp(logarithms) / norms
    return weights / weights.sum()


def assert_bargained(rows: Array) -> None:
    """a_m <g_m, d> is one number for all tasks, and positive."""
    weights = fresh("nash_mtl", rows)
    gains = weights * (rows @ (weights @ rows))
    assert gains.min() > 0
    np.testing.assert_allclose(gains, gains.mean(), rtol=1e-8, atol=0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("num_tasks", TASKS)
def test_reference(num_tasks: int, case: str, seed: int) -> None:
    rows = gradients(case, num_tasks, seed)
    np.testing.assert_allclose(fresh("nash_mtl", rows), bargain(rows), rtol=1e-8, atol=0)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("num_tasks", TASKS)
def test_each_task_gains_in_proportion(num_tasks: int, case: str) -> None:
    rows = gradients(case, num_tasks)
    assert_bargained(rows)
    weights = fresh("nash_mtl", rows)
    assert (weights > 0).all()
    assert weights.sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("kept", [0.1, 1e-2, 1e-3])
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("num_tasks", TASKS)
def test_nearly_stationary(num_tasks: int, seed: int, kept: float) -> None:
    """Gradients that cancel but for a small share of their mean."""
    rows = gradients("generic", num_tasks, seed)
    rows -= (1 - kept) * rows.mean(axis=0)
    assert_bargained(rows)


@pytest.mark.parametrize("kept", [0.1, 1e-2, 1e-3])
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("num_tasks", [5, 8])
def test_some_nearly_stationary(num_tasks: int, seed: int, kept: float) -> None:
    """Three of the gradients; their shares become far larger than those of the others."""
    rows = gradients("generic", num_tasks, seed)
    rows[:3] -= (1 - kept) * rows[:3].mean(axis=0)
    assert_bargained(rows)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("num_tasks", TASKS)
def test_as_many_tasks_as_dimensions(num_tasks: int, seed: int) -> None:
    rows = gradients("generic", num_tasks, seed)[:, :num_tasks]
    assert_bargained(rows)


@quick
@given(st.integers(0, 10_000), st.floats(1e-5, 1e5))
def test_two_tasks(seed: int, ratio: float) -> None:
    """Weights are inverse to the norms."""
    rows = gradients("generic", 2, seed) * np.array([[1.0], [ratio]])
    inverse = 1 / np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(fresh("nash_mtl", rows), inverse / inverse.sum(), rtol=1e-10)


@quick
@given(st.integers(0, 1000), st.lists(st.floats(1e-4, 1e4), min_size=3, max_size=3))
def test_invariant_to_each_tasks_scale(seed: int, factors: list[float]) -> None:
    rows = gradients("generic", 3, seed)
    scaled = np.array(factors)[:, None] * rows
    direction, expected = fresh("nash_mtl", scaled) @ scaled, fresh("nash_mtl", rows) @ rows
    np.testing.assert_allclose(
        direction / np.linalg.norm(direction), expected / np.linalg.norm(expected), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("num_tasks", TASKS)
def test_stationary_gradients_stay_finite(num_tasks: int) -> None:
    rows = gradients("generic", num_tasks)
    rows -= rows.mean(axis=0)
    weights = fresh("nash_mtl", rows)
    assert (weights >= 0).all()
    assert np.isfinite(weights).all()
    assert np.linalg.norm(weights @ rows) <= 1e-3 * np.linalg.norm(rows, axis=1).min()


@pytest.mark.parametrize("seed", range(20))
def test_rounded_gramians_of_stationary_gradients(seed: int) -> None:
    """In float32 they have negative eigenvalues and no solution; the shares must stay positive."""
    rows = gradients("generic", 5, seed)
    rows -= rows.mean(axis=0)
    gramian = torch.from_numpy(rows @ rows.T) * (1 + 1e-6 * torch.eye(5) * (-1) ** seed)
    weights = create_balancer("nash_mtl", 5).update(gramian.float().double())
    assert (weights >= 0).all()
    assert weights.sum().item() == pytest.approx(1)
