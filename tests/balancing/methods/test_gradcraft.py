"""GradCraft on explicit vectors."""

from typing import Any

import numpy as np
import pytest

from dlrm_mtl.balancing import create_balancer
from tests.balancing.methods.cases import CASES, TASKS, coefficients, fresh, gradients, sequence
from tests.balancing.reference import Array
from tests.messages import naming


def crafted(rows: Array, norms: Array, relax: float, margin: float) -> Array:
    """The combined gradient, where norms are the moving averages; each correction by least squares on the vectors."""
    scaled = [
        (relax * norms.max() / norm + 1 - relax) * row if norm else row for row, norm in zip(rows, norms, strict=True)
    ]
    corrected = []
    for row in scaled:
        others = np.array([other for other in scaled if row @ other < 0]).reshape(-1, len(row))
        goals = margin * np.linalg.norm(row) * np.linalg.norm(others, axis=1) - others @ row
        lengths = np.linalg.norm(others, axis=1)
        shift, *_ = np.linalg.lstsq(others / lengths[:, None], goals / lengths, rcond=1e-9)
        corrected.append(row + shift)
    result: Array = np.mean(corrected, axis=0)
    return result


@pytest.mark.parametrize("options", [(0.1, 1e-10), (0.0, 0.0), (1.0, 0.2)])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("num_tasks", TASKS)
def test_reference(num_tasks: int, case: str, options: tuple[float, float]) -> None:
    relax, margin = options
    for seed in range(3):
        rows = gradients(case, num_tasks, seed)
        norms = np.linalg.norm(rows, axis=1)
        expected = crafted(rows, norms, relax, margin)
        actual = fresh("gradcraft", rows, relax=relax, margin=margin) @ rows
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-8 * norms.max())


@pytest.mark.parametrize("num_tasks", TASKS)
def test_ten_steps_with_averages(num_tasks: int) -> None:
    """Averages start at 0, which cancels between tasks that are always there; the second task comes later."""
    balancer = create_balancer("gradcraft", num_tasks, relax=0.7, average=0.8)
    averages, counts = np.zeros(num_tasks), np.zeros(num_tasks)
    for step, rows in enumerate(sequence(num_tasks)):
        rows -= 0.5 * rows.mean(axis=0)
        if step < 3:
            rows[1] = 0
        norms = np.linalg.norm(rows, axis=1)
        active = norms > 0
        averages[active] = 0.8 * averages[active] + 0.2 * norms[active]
        counts += active
        expected = crafted(rows, averages / np.maximum(1 - 0.8**counts, 0.2), 0.7, 1e-10)
        np.testing.assert_allclose(coefficients(balancer, rows) @ rows, expected, rtol=0, atol=1e-9 * norms.max())


@pytest.mark.parametrize("num_tasks", TASKS)
def test_without_conflict_and_balancing_it_is_the_mean(num_tasks: int) -> None:
    rows = np.abs(gradients("scaled", num_tasks))
    np.testing.assert_allclose(fresh("gradcraft", rows, relax=0.0), np.full(num_tasks, 1 / num_tasks), rtol=1e-12)


def test_two_tasks_without_balancing_are_those_of_pcgrad() -> None:
    rows = gradients("opposed", 2)
    np.testing.assert_allclose(fresh("gradcraft", rows, relax=0.0, margin=0.0), fresh("pcgrad", rows), rtol=1e-7)


def test_a_margin_that_does_not_exist_leaves_finite_weights() -> None:
    """The second and third gradient cancel: nothing has a positive product with both."""
    rows = np.array([[1.0, -1.0, 0.0], [-1.0, 0.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 0.5, 0.0]])
    weights = fresh("gradcraft", rows, margin=0.5)
    assert np.isfinite(weights).all()
    assert np.linalg.norm(weights @ rows) <= 10 * np.linalg.norm(rows, axis=1).max()


@pytest.mark.parametrize("option", [{"relax": 1.1}, {"average": 1.0}, {"margin": -0.1}])
def test_options_out_of_range(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=naming(next(iter(option)))):
        create_balancer("gradcraft", 2, **option)
