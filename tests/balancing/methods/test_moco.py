"""MoCo on explicit vectors."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from dlrm_mtl.balancing import create_balancer
from tests.balancing.methods.cases import CASES, TASKS, WIDTH, coefficients, fresh, gradients, sequence
from tests.balancing.reference import Array, project_by_bisection


@dataclass
class Reference:
    """The method on M explicit gradients; the state is lambda, y and the step count."""

    num_tasks: int
    beta: float = 0.1
    step_size: float = 0.1
    rho: float = 0.1
    decay: float = 0.5
    weights: Array = field(init=False)
    averages: list[Array | None] = field(init=False)
    step: int = 0

    def __post_init__(self) -> None:
        self.weights = np.full(self.num_tasks, 1 / self.num_tasks)
        self.averages = [None] * self.num_tasks

    def __call__(self, rows: Array) -> Array:
        """lambda after one step."""
        self.step += 1
        shrink = self.step**-self.decay
        for m, row in enumerate(rows):
            before = self.averages[m]
            if row.any():
                self.averages[m] = row if before is None else before - self.beta * shrink * (before - row)
        seen = [m for m in range(self.num_tasks) if self.averages[m] is not None]
        known = np.array([self.averages[m] for m in seen])
        unit = np.sqrt(np.mean(np.sum(known**2, axis=1)))
        known = known / unit
        weights = self.weights[seen] / self.weights[seen].sum()
        combined = weights @ known
        slope = known @ combined + self.rho * weights
        moved = project_by_bisection(weights - self.step_size * shrink * slope)
        self.weights = np.zeros(self.num_tasks)
        self.weights[seen] = moved
        return self.weights


@pytest.mark.parametrize(
    "options",
    [{}, {"beta": 1.0, "step_size": 2.0}, {"decay": 0.0, "rho": 0.0, "step_size": 0.5}, {"beta": 0.5, "rho": 3.0}],
    ids=str,
)
@pytest.mark.parametrize("num_tasks", TASKS)
def test_ten_steps(num_tasks: int, options: dict[str, Any]) -> None:
    """The second task is silent at first, and the first task later."""
    balancer, reference = create_balancer("moco", num_tasks, **options), Reference(num_tasks, **options)
    before = np.full(num_tasks, 1 / num_tasks)
    for step, rows in enumerate(sequence(num_tasks)):
        if step < 2:
            rows[1] = 0
        if step in (4, 5):
            rows[0] = 0
        expected = reference(rows)
        np.testing.assert_allclose(coefficients(balancer, rows), expected, rtol=0, atol=1e-11)
        if num_tasks > 2 and step < 3:
            assert np.abs(expected - before).max() > 1e-4
        before = expected


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("num_tasks", TASKS)
def test_case_repeated(num_tasks: int, case: str) -> None:
    balancer, reference = create_balancer("moco", num_tasks), Reference(num_tasks)
    for step in range(10):
        rows = gradients(case, num_tasks, step)
        np.testing.assert_allclose(coefficients(balancer, rows), reference(rows), rtol=0, atol=1e-11)


def test_without_averages_it_approaches_mgda() -> None:
    """On constant gradients, with constant steps and no regularisation."""
    rows = gradients("generic", 5)
    balancer = create_balancer("moco", 5, decay=0.0, rho=0.0, step_size=0.3)
    for _ in range(3000):
        actual = coefficients(balancer, rows)
    np.testing.assert_allclose(actual, fresh("mgda", rows), rtol=0, atol=1e-8)


def test_gradients_are_pooled() -> None:
    batch = np.random.default_rng(0).standard_normal((3, 4, WIDTH))
    pooled, flat = create_balancer("moco", 3), create_balancer("moco", 3)
    assert np.array_equal(coefficients(pooled, batch), coefficients(flat, batch.sum(axis=1)))


def test_a_step_without_any_gradient_keeps_the_averages() -> None:
    balancer, twin = create_balancer("moco", 2), create_balancer("moco", 2)
    for step, rows in enumerate(sequence(2)[:4]):
        if step == 2:
            balancer.update(balancer.measure([None, None], balancer.step.device))
            twin.update(twin.measure([None, None], twin.step.device))
            assert balancer.get_buffer("averages").shape == (2, WIDTH)
        assert np.array_equal(coefficients(balancer, rows), coefficients(twin, rows))
    first = create_balancer("moco", 2)
    assert first.update(first.measure([None, None], first.step.device)).tolist() == [0.5, 0.5]
    assert np.isfinite(coefficients(first, sequence(2)[0])).all()


def test_all_weight_on_a_removed_task() -> None:
    balancer = create_balancer("moco", 3)
    balancer.get_buffer("weights").copy_(torch.tensor([0.0, 0.0, 1.0]))
    rows = sequence(3)[0]
    rows[2] = 0
    actual = coefficients(balancer, rows)
    assert actual[2] == 0
    assert actual.sum() == pytest.approx(1)
    assert actual[:2].min() > 0
