"""IMTL-G against the paper's closed form on differences of explicit vectors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.balancing.methods.cases import CASES, TASKS, fresh, gradients, quick
from tests.balancing.reference import Array


def closed_form(rows: Array) -> Array:
    """alpha_2.. = g_1 U' (D U')^-1 with the rows g_1 - g_m of D and u_1 - u_m of U, and alpha_1 = 1 - their sum."""
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    differences, directions = rows[:1] - rows[1:], units[:1] - units[1:]
    others = np.linalg.solve((differences @ directions.T).T, directions @ rows[0])
    return np.concatenate([[1 - others.sum()], others])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("case", [case for case in CASES if case != "duplicate"])
@pytest.mark.parametrize("num_tasks", TASKS)
def test_reference(num_tasks: int, case: str, seed: int) -> None:
    rows = gradients(case, num_tasks, seed)
    expected = closed_form(rows)
    expected = expected / max(1, np.abs(expected).max() / 10)
    tolerance = 1e-5 if case == "parallel" else 1e-8  # a Gramian of nearly parallel vectors has lost half the digits
    np.testing.assert_allclose(fresh("imtl_g", rows), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", ["generic", "tiny", "scaled", "duplicate", "opposed"])
@pytest.mark.parametrize("num_tasks", TASKS)
def test_equal_projections(num_tasks: int, case: str) -> None:
    rows = gradients(case, num_tasks)
    direction = fresh("imtl_g", rows) @ rows
    projections = rows @ direction / np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(projections, projections.mean(), rtol=1e-6)


@quick
@given(st.integers(0, 10_000), st.floats(1e-5, 1e5))
def test_two_tasks(seed: int, ratio: float) -> None:
    rows = gradients("generic", 2, seed) * np.array([[1.0], [ratio]])
    first, second = np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(fresh("imtl_g", rows), np.array([second, first]) / (first + second), rtol=1e-9)


def test_duplicates_share_the_weight_of_one() -> None:
    rows = gradients("generic", 3)
    doubled = rows[[0, 0, 1, 2]]
    np.testing.assert_allclose(fresh("imtl_g", doubled) @ doubled, fresh("imtl_g", rows) @ rows, rtol=0, atol=1e-6)


def test_weights_that_would_explode_keep_their_direction() -> None:
    """The third task's weight is negative, and its norm such that the weights nearly cancel in the sum."""
    units = np.array([[1.0, 0, 0], [0, 1.0, 0], [0.6, 0.6, np.sqrt(0.28)]])
    shares = np.linalg.solve(units @ units.T, np.ones(3))
    assert shares[2] < 0
    rows = units * np.array([[1.0], [1.0], [-shares[2] / shares[:2].sum() * 1.0001]])
    expected = closed_form(rows)
    assert np.abs(expected).max() > 1000
    actual = fresh("imtl_g", rows)
    assert np.abs(actual).max() == pytest.approx(10)
    np.testing.assert_allclose(actual / 10, expected / np.abs(expected).max(), rtol=1e-6)
