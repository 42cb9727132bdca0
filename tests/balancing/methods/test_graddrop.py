"""GradDrop: each draw keeps one sign per element, and the mean over draws has a closed form."""

import numpy as np
import pytest
import torch

from dlrm_mtl.balancing import create_balancer
from tests.balancing.methods.cases import CASES, TASKS, gradients
from tests.balancing.reference import Array

DRAWS = 4000


def expected_mean(rows: Array, leak: float) -> Array:
    """Positive parts with probability P, else negative parts; element by element."""
    result = np.zeros(rows.shape[1])
    for n, column in enumerate(rows.T):
        purity = 0.5 * (1 + column.sum() / np.abs(column).sum())
        kept = purity * column[column > 0].sum() + (1 - purity) * column[column < 0].sum()
        result[n] = leak * column.sum() + (1 - leak) * kept
    return result / len(rows)


def draws(rows: Array, count: int, leak: float = 0.0) -> Array:
    """(count, N), a tenth of them in each of ten steps."""
    balancer = create_balancer("graddrop", len(rows), leak=leak)
    given = torch.from_numpy(np.tile(rows, -(-count // 10)))
    actual: Array = torch.stack([balancer.combine(given) for _ in range(10)]).numpy()
    return actual.reshape(-1, rows.shape[1])[:count]


@pytest.mark.parametrize("leak", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("case", ["generic", "conflicting", "scaled"])
@pytest.mark.parametrize("num_tasks", [2, 5])
def test_mean_over_draws(num_tasks: int, case: str, leak: float) -> None:
    """Within 5 standard errors of every element, and 10 draws of a rare sign."""
    rows = gradients(case, num_tasks)
    purity = 0.5 * (1 + rows.sum(axis=0) / np.abs(rows).sum(axis=0))
    span = (1 - leak) * np.abs(rows).sum(axis=0) / num_tasks
    error = span * (5 * np.sqrt(purity * (1 - purity) / DRAWS) + 10 / DRAWS * (purity * (1 - purity) > 0))
    actual = draws(rows, DRAWS, leak).mean(axis=0)
    assert (np.abs(actual - expected_mean(rows, leak)) <= error + 1e-12 * np.abs(rows).max()).all()


@pytest.mark.parametrize("leak", [0.0, 0.25])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("num_tasks", TASKS)
def test_every_element_is_one_of_two(num_tasks: int, case: str, leak: float) -> None:
    rows = gradients(case, num_tasks)
    both = leak * rows.sum(axis=0) / num_tasks
    positive = both + (1 - leak) * np.where(rows > 0, rows, 0).sum(axis=0) / num_tasks
    negative = both + (1 - leak) * np.where(rows < 0, rows, 0).sum(axis=0) / num_tasks
    scale = np.abs(rows).max()
    for drawn in draws(rows, 5, leak):
        near = np.minimum(np.abs(drawn - positive), np.abs(drawn - negative))
        assert (near <= 1e-13 * scale).all()


def test_elements_are_drawn_independently() -> None:
    """Two elements with P = 1/2 agree in half of the draws."""
    actual = draws(np.array([[1.0, 1.0], [-1.0, -1.0]]), DRAWS)
    agreeing = (actual[:, 0] == actual[:, 1]).mean()
    assert abs(agreeing - 0.5) <= 5 * 0.5 / np.sqrt(DRAWS)


@pytest.mark.parametrize("sign", [1, -1])
def test_where_all_signs_agree_it_is_the_mean(sign: int) -> None:
    rows = sign * np.abs(gradients("generic", 3))
    for drawn in draws(rows, 20):
        np.testing.assert_allclose(drawn, rows.mean(axis=0), rtol=1e-12)


def test_elements_without_any_gradient_are_zero() -> None:
    assert (draws(np.zeros((3, 4)), 3) == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_dtype_is_kept(dtype: torch.dtype) -> None:
    rows = torch.from_numpy(gradients("generic", 3)).to(dtype)
    actual = create_balancer("graddrop", 3).combine(rows)
    assert actual.dtype == dtype
    exact = create_balancer("graddrop", 3).combine(rows.float())
    if dtype != torch.float64:  # whose draws have more digits
        torch.testing.assert_close(actual.float(), exact, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("leak", [0.0, 0.5])
def test_values_that_are_not_finite_are_passed_on(bad: float, leak: float) -> None:
    rows = torch.ones(3, 400)
    rows[1] = -1
    rows[2, 7] = bad
    assert create_balancer("graddrop", 3, leak=leak).combine(rows).isnan().all()


def test_the_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    draws(gradients("generic", 2), 2)
    assert torch.equal(torch.get_rng_state(), state)
