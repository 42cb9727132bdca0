"""SDMGrad against non-negative least squares on explicit vectors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.balancing.methods.cases import CASES, TASKS, fresh, gradients, quick
from tests.balancing.methods.simplex_reference import assert_as_short, nearest_weights
from tests.balancing.reference import Array


def shifted(rows: Array, rho: float, prior: Array) -> Array:
    """On the simplex, V w + rho V prior is the combination by w of these."""
    result: Array = rows + rho * prior @ rows
    return result


def skewed(num_tasks: int) -> Array:
    prior = np.arange(1.0, num_tasks + 1)
    result: Array = prior / prior.sum()
    return result


@pytest.mark.parametrize("rho", [0.0, 0.3, 5.0])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("num_tasks", TASKS)
def test_reference(num_tasks: int, case: str, rho: float) -> None:
    rows = gradients(case, num_tasks)
    for prior in (np.full(num_tasks, 1 / num_tasks), skewed(num_tasks)):
        actual = fresh("sdmgrad", rows, rho=rho, prior=prior.tolist())
        weights = (1 + rho) * actual - rho * prior
        assert weights.min() >= -1e-12
        weights = np.maximum(weights, 0) / np.maximum(weights, 0).sum()
        assert_as_short(weights, shifted(rows, rho, prior))
        if case in ("generic", "conflicting", "tiny"):
            expected = nearest_weights(shifted(rows, rho, prior))
            np.testing.assert_allclose(weights, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("num_tasks", [3, 5, 8])
def test_the_right_support(num_tasks: int) -> None:
    """Of several sets of tasks whose optimality conditions hold, the best one: norms and priors drawn at random."""
    random = np.random.default_rng(num_tasks)
    for seed in range(60):
        rows = gradients("generic", num_tasks, seed)[:, : num_tasks + 1] * random.lognormal(
            sigma=1, size=(num_tasks, 1)
        )
        prior, rho = random.dirichlet(np.full(num_tasks, 0.3)), 10 ** random.uniform(-1, 1)
        weights = (1 + rho) * fresh("sdmgrad", rows, rho=rho, prior=prior.tolist()) - rho * prior
        expected = nearest_weights(shifted(rows, rho, prior))
        np.testing.assert_allclose(weights, expected, rtol=0, atol=1e-7)


@quick
@given(st.integers(0, 10_000), st.floats(1e-2, 1e2), st.floats(0, 10))
def test_two_tasks(seed: int, ratio: float, rho: float) -> None:
    rows = gradients("generic", 2, seed) * np.array([[1.0], [ratio]])
    first_moved, second_moved = shifted(rows, rho, np.array([0.5, 0.5]))
    difference = second_moved - first_moved
    first = np.clip(second_moved @ difference / (difference @ difference), 0, 1)
    expected = (np.array([first, 1 - first]) + rho / 2) / (1 + rho)
    np.testing.assert_allclose(fresh("sdmgrad", rows, rho=rho), expected, rtol=0, atol=1e-9)


def test_without_the_prior_it_is_mgda() -> None:
    rows = gradients("conflicting", 5)
    np.testing.assert_allclose(fresh("sdmgrad", rows, rho=0.0), fresh("mgda", rows), rtol=0, atol=1e-12)


def test_a_strong_prior_is_the_mean() -> None:
    rows = gradients("conflicting", 5)
    np.testing.assert_allclose(fresh("sdmgrad", rows, rho=1e6), np.full(5, 0.2), rtol=0, atol=1e-5)


def test_the_prior_of_a_silent_task_is_left_out() -> None:
    rows = gradients("generic", 3)
    rows[0] = 0
    actual = fresh("sdmgrad", rows, rho=1.0, prior=[1.0, 0.0, 0.0])
    np.testing.assert_allclose(2 * actual[1:], nearest_weights(rows[1:]), rtol=0, atol=1e-8)
