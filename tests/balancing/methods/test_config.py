"""ConFIG against the pseudo-inverse of explicit unit vectors."""

import numpy as np
import pytest

from tests.balancing.methods.cases import CASES, TASKS, fresh, gradients
from tests.balancing.reference import Array


def conflict_free(rows: Array) -> Array:
    """The mean of the projections onto the unit vector along U^+ 1, times that vector."""
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    direction = np.linalg.pinv(units) @ np.ones(len(rows))
    direction /= np.linalg.norm(direction)
    result: Array = (rows @ direction).mean() * direction
    return result


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("num_tasks", TASKS)
def test_reference(num_tasks: int, case: str) -> None:
    for seed in range(3):
        rows = gradients(case, num_tasks, seed)
        scale = np.linalg.norm(rows, axis=1).max()
        # A Gramian of nearly parallel vectors has lost half the digits.
        tolerance = 1e-5 if case == "parallel" else 1e-8
        np.testing.assert_allclose(fresh("config", rows) @ rows, conflict_free(rows), rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("case", ["generic", "conflicting", "tiny", "scaled", "duplicate", "opposed"])
@pytest.mark.parametrize("num_tasks", TASKS)
def test_equal_positive_projections(num_tasks: int, case: str) -> None:
    rows = gradients(case, num_tasks)
    projections = rows @ (fresh("config", rows) @ rows) / np.linalg.norm(rows, axis=1)
    assert projections.min() > 0
    np.testing.assert_allclose(projections, projections.mean(), rtol=1e-6)


def test_orthogonal_gradients_of_one_norm_have_their_mean() -> None:
    np.testing.assert_allclose(fresh("config", 3e-4 * np.eye(4)), np.full(4, 0.25), rtol=1e-12)


def test_gradients_that_cancel_have_a_combination_of_zero() -> None:
    rows = gradients("generic", 2)
    rows[1] = -2 * rows[0]
    weights = fresh("config", rows)
    assert np.isfinite(weights).all()
    assert np.linalg.norm(weights @ rows) <= 1e-6 * np.linalg.norm(rows)
