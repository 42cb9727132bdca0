"""MGDA against non-negative least squares on explicit vectors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.balancing.methods.cases import CASES, TASKS, fresh, gradients, quick
from tests.balancing.methods.simplex_reference import assert_as_short, nearest_weights
from tests.balancing.reference import Array

NORMALIZATIONS = ("none", "l2", "loss", "loss+")


def losses(num_tasks: int) -> Array:
    return np.linspace(0.2, 3.0, num_tasks)


def normalised(rows: Array, normalization: str) -> Array:
    divisor = np.ones(len(rows))
    if normalization in ("l2", "loss+"):
        divisor = divisor * np.linalg.norm(rows, axis=1)
    if normalization in ("loss", "loss+"):
        divisor = divisor * losses(len(rows))
    result: Array = rows / divisor[:, None]
    return result


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("num_tasks", TASKS)
def test_reference(num_tasks: int, case: str, normalization: str, seed: int) -> None:
    rows = gradients(case, num_tasks, seed)
    weights = fresh("mgda", rows, losses(num_tasks), normalization=normalization)
    assert_as_short(weights, normalised(rows, normalization))
    if case in ("generic", "conflicting", "tiny"):  # the weights themselves are well-defined
        np.testing.assert_allclose(weights, nearest_weights(normalised(rows, normalization)), rtol=0, atol=1e-8)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("num_tasks", TASKS)
def test_no_task_is_hurt(num_tasks: int, case: str) -> None:
    """<g_m, d> >= |d|^2."""
    rows = gradients(case, num_tasks)
    direction = fresh("mgda", rows) @ rows
    square = direction @ direction
    assert (rows @ direction >= square * (1 - 1e-8) - 1e-12 * np.linalg.norm(rows, axis=1).min() ** 2).all()


@quick
@given(st.integers(0, 10_000), st.floats(1e-3, 1e3))
def test_two_tasks(seed: int, ratio: float) -> None:
    rows = gradients("generic", 2, seed) * np.array([[1.0], [ratio]])
    difference = rows[1] - rows[0]
    first = np.clip(rows[1] @ difference / (difference @ difference), 0, 1)
    np.testing.assert_allclose(fresh("mgda", rows), [first, 1 - first], rtol=0, atol=1e-10)


def test_unit_gradients_are_weighed_alike() -> None:
    """Normalised by their norms, two gradients always share equally."""
    rows = gradients("scaled", 2)
    np.testing.assert_allclose(fresh("mgda", rows, normalization="l2"), [0.5, 0.5], rtol=0, atol=1e-12)


@pytest.mark.parametrize("normalization", ["loss", "loss+"])
def test_losses_are_asked_for(normalization: str) -> None:
    with pytest.raises(ValueError, match="needs the losses"):
        fresh("mgda", gradients("generic", 2), normalization=normalization)


def test_a_loss_of_zero_leaves_its_gradient_as_it_is() -> None:
    rows = gradients("generic", 3)
    weights = fresh("mgda", rows, np.array([0.0, 1.0, 1.0]), normalization="loss")
    np.testing.assert_allclose(weights, nearest_weights(rows), rtol=0, atol=1e-8)
