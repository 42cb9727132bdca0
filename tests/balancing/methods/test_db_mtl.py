"""DB-MTL on explicit vectors."""

import statistics
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlrm_mtl.balancing import create_balancer
from tests.balancing.methods.cases import CASES, TASKS, WIDTH, coefficients, fresh, gradients, quick, sequence
from tests.balancing.reference import Array

TARGETS: dict[str, Callable[[list[float]], float]] = {
    "max": max,
    "min": min,
    "median": statistics.median,
    "mean": statistics.fmean,
}


def scaled_to_one_norm(rows: Array, norms: Array, target: str) -> Array:
    """The mean of the gradients, each scaled from the given norm to the target."""
    seen = [float(norm) for norm in norms if norm > 0]
    goal = TARGETS[target](seen) if seen else 0.0
    parts = [row * (goal / norm) if norm > 0 else np.zeros_like(row) for row, norm in zip(rows, norms, strict=True)]
    result: Array = np.sum(parts, axis=0) / len(rows)
    return result


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("num_tasks", TASKS)
def test_reference(num_tasks: int, case: str, target: str) -> None:
    rows = gradients(case, num_tasks)
    expected = scaled_to_one_norm(rows, np.linalg.norm(rows, axis=1), target)
    scale = np.linalg.norm(rows, axis=1).max()
    np.testing.assert_allclose(fresh("db_mtl", rows, target=target) @ rows, expected, rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("silent", [(0,), (1, 4), (0, 1, 2), (0, 1, 2, 3, 4)])
def test_silent_tasks_count_for_no_norm(silent: tuple[int, ...], target: str) -> None:
    rows = gradients("generic", 5)
    rows[list(silent)] = 0
    actual = fresh("db_mtl", rows, target=target)
    assert (actual[list(silent)] == 0).all()
    expected = scaled_to_one_norm(rows, np.linalg.norm(rows, axis=1), target)
    np.testing.assert_allclose(actual @ rows, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("num_tasks", TASKS)
def test_gradients_of_log_losses(num_tasks: int, target: str) -> None:
    rows, losses = gradients("generic", num_tasks), np.linspace(0.05, 4, num_tasks)
    logarithmic = rows / losses[:, None]
    expected = scaled_to_one_norm(logarithmic, np.linalg.norm(logarithmic, axis=1), target)
    actual = fresh("db_mtl", rows, losses, target=target, log_losses=True)
    np.testing.assert_allclose(actual @ rows, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("log_losses", [False, True])
@pytest.mark.parametrize("average", [0.3, 0.9])
@pytest.mark.parametrize("num_tasks", TASKS)
def test_ten_steps_with_averages(num_tasks: int, average: float, log_losses: bool) -> None:
    """The second task is silent at first, and the first task later."""
    balancer = create_balancer("db_mtl", num_tasks, average=average, log_losses=log_losses)
    averages: list[Array | None] = [None] * num_tasks
    for step, rows in enumerate(sequence(num_tasks)):
        losses = np.linspace(0.5, 2, num_tasks) / (1 + step)
        if step < 2:
            rows[1] = 0
        if step in (4, 5):
            rows[0] = 0
        logarithmic = rows / losses[:, None] if log_losses else rows
        for m, row in enumerate(logarithmic):
            before = averages[m]
            if row.any():
                averages[m] = row if before is None else average * before + (1 - average) * row
        norms = np.array([0.0 if mean is None else np.linalg.norm(mean) for mean in averages])
        actual = coefficients(balancer, rows, losses if log_losses else None) @ rows
        expected = scaled_to_one_norm(logarithmic, norms, "max")
        np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-10)


def test_averages_are_of_pooled_gradients() -> None:
    """A batch of two rows counts as their sum."""
    random = np.random.default_rng(0)
    batch = random.standard_normal((3, 2, WIDTH))
    actual = fresh("db_mtl", batch, average=0.5)
    np.testing.assert_allclose(actual, fresh("db_mtl", batch.sum(axis=1)), rtol=1e-12)
    assert not np.allclose(actual, fresh("db_mtl", batch.reshape(3, -1)))


@quick
@given(st.integers(0, 10_000), st.lists(st.floats(1e-4, 1e4), min_size=3, max_size=3))
def test_all_tasks_reach_one_norm(seed: int, factors: list[float]) -> None:
    rows = np.array(factors)[:, None] * gradients("generic", 3, seed)
    norms = np.linalg.norm(fresh("db_mtl", rows)[:, None] * rows, axis=1)
    np.testing.assert_allclose(norms, np.linalg.norm(rows, axis=1).max() / 3, rtol=1e-10)
