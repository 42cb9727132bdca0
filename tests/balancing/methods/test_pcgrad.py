"""PCGrad against projections of explicit vectors, one after the other."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dlrm_mtl.balancing import create_balancer
from dlrm_mtl.balancing.algebra.random_order import random_partners
from tests.balancing.methods.cases import CASES, TASKS, coefficients, fresh, gradients, quick, sequence
from tests.balancing.reference import Array


def project(rows: Array, partners: list[list[int]]) -> Array:
    """The mean of the projected gradients, (N,)."""
    total = np.zeros(rows.shape[1])
    for row, others in zip(rows, partners, strict=True):
        projected = row.copy()
        for other in others:
            product = projected @ rows[other]
            if product < 0:
                projected -= product / (rows[other] @ rows[other]) * rows[other]
        total += projected
    return total / len(rows)


def partners_at(num_tasks: int, step: int, seed: int = 0) -> list[list[int]]:
    actual: list[list[int]] = random_partners(num_tasks, seed, torch.tensor(step)).tolist()
    return actual


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("num_tasks", TASKS)
def test_reference(num_tasks: int, case: str, seed: int) -> None:
    rows = gradients(case, num_tasks, seed)
    expected = project(rows, partners_at(num_tasks, 0, seed))
    scale = np.linalg.norm(rows, axis=1).max()
    np.testing.assert_allclose(fresh("pcgrad", rows, seed=seed) @ rows, expected, rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize("num_tasks", TASKS)
def test_ten_steps(num_tasks: int) -> None:
    balancer = create_balancer("pcgrad", num_tasks)
    for step, rows in enumerate(sequence(num_tasks)):
        rows = rows - 0.9 * rows.mean(axis=0)
        expected = project(rows, partners_at(num_tasks, step))
        np.testing.assert_allclose(coefficients(balancer, rows) @ rows, expected, rtol=0, atol=1e-11)


def test_the_order_matters() -> None:
    """So the tests above would fail with another order."""
    rows = gradients("conflicting", 5)
    forward = project(rows, [[j for j in range(5) if j != i] for i in range(5)])
    backward = project(rows, [[j for j in reversed(range(5)) if j != i] for i in range(5)])
    assert np.abs(forward - backward).max() > 1e-3


@quick
@given(st.integers(0, 10_000), st.floats(1e-3, 1e3), st.floats(-0.999, 0.999))
def test_two_tasks(seed: int, ratio: float, cosine: float) -> None:
    rows = gradients("generic", 2, seed)
    first = rows[0] / np.linalg.norm(rows[0])
    second = rows[1] - rows[1] @ first * first
    second = ratio * (cosine * first + np.sqrt(1 - cosine**2) * second / np.linalg.norm(second))
    pair = np.array([first, second])
    conflict = min(cosine, 0)
    expected = np.array([1 - conflict * ratio, 1 - conflict / ratio]) / 2
    np.testing.assert_allclose(fresh("pcgrad", pair), expected, rtol=1e-9)
    # Neither task is hurt.
    assert (pair @ (expected @ pair) >= -1e-9 * ratio).all()


@pytest.mark.parametrize("num_tasks", TASKS)
def test_without_conflicts_it_is_the_mean(num_tasks: int) -> None:
    rows = np.abs(gradients("generic", num_tasks))
    np.testing.assert_array_equal(fresh("pcgrad", rows), np.full(num_tasks, 1 / num_tasks))
