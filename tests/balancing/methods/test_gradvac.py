"""Gradient Vaccine on explicit vectors, one pair after the other."""

import numpy as np
import pytest
import torch

from dlrm_mtl.balancing import create_balancer
from dlrm_mtl.balancing.algebra.random_order import random_partners
from tests.balancing.methods.cases import CASES, TASKS, coefficients, fresh, gradients, sequence
from tests.balancing.reference import Array


class Vaccine:
    """The method on M explicit gradients; the state is phi_hat of every pair and the step count."""

    def __init__(self, num_tasks: int, beta: float, seed: int = 0) -> None:
        self.targets = np.zeros((num_tasks, num_tasks))
        self.beta = beta
        self.seed = seed
        self.step = 0

    def __call__(self, rows: Array) -> Array:
        """One step, (M, N) to (N,)."""
        partners = random_partners(len(rows), self.seed, torch.tensor(self.step)).tolist()
        total = np.zeros(rows.shape[1])
        for i, others in enumerate(partners):
            current = rows[i].copy()
            for j in others:
                current = self._pair(rows, current, i, j)
            total += current
        self.step += 1
        return total / len(rows)

    def _pair(self, rows: Array, current: Array, i: int, j: int) -> Array:
        length, other = np.linalg.norm(current), np.linalg.norm(rows[j])
        if length <= 1e-7 * np.linalg.norm(rows[i]) or other == 0:
            return current
        phi = float(current @ rows[j] / (length * other))
        target = float(np.clip(self.targets[i, j], -0.999, 0.999))
        if phi < target:
            sine, target_sine = np.sqrt(1 - phi**2), np.sqrt(1 - target**2)
            current = current + rows[j] * length * (target * sine - phi * target_sine) / (other * target_sine)
        self.targets[i, j] = (1 - self.beta) * self.targets[i, j] + self.beta * phi
        return current


@pytest.mark.parametrize("beta", [0.01, 0.5, 1.0])
@pytest.mark.parametrize("num_tasks", TASKS)
def test_ten_steps(num_tasks: int, beta: float) -> None:
    balancer, reference = create_balancer("gradvac", num_tasks, beta=beta), Vaccine(num_tasks, beta)
    raised = 0
    for step, rows in enumerate(sequence(num_tasks)):
        if step in (3, 6):  # silent: its pairs keep their targets
            rows[step % 2] = 0
        expected = reference(rows)
        actual = coefficients(balancer, rows)
        np.testing.assert_allclose(actual @ rows, expected, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(balancer.get_buffer("targets").numpy(), reference.targets, rtol=0, atol=1e-10)
        raised += np.abs(actual - 1 / num_tasks).max() > 1e-3
    assert raised >= 5


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("num_tasks", TASKS)
def test_case_repeated(num_tasks: int, case: str) -> None:
    balancer, reference = create_balancer("gradvac", num_tasks, beta=0.3), Vaccine(num_tasks, 0.3)
    for step in range(10):
        rows = gradients(case, num_tasks, step)
        expected = reference(rows)
        scale = np.linalg.norm(expected) + np.linalg.norm(rows, axis=1).max()
        np.testing.assert_allclose(coefficients(balancer, rows) @ rows, expected, rtol=0, atol=1e-8 * scale)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("num_tasks", TASKS)
def test_the_first_step_is_pcgrads(num_tasks: int, case: str) -> None:
    rows = gradients(case, num_tasks)
    scale = np.linalg.norm(rows, axis=1).max()
    actual, expected = fresh("gradvac", rows) @ rows, fresh("pcgrad", rows) @ rows
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9 * scale)


def test_a_cosine_is_raised_to_its_target() -> None:
    balancer = create_balancer("gradvac", 2)
    balancer.get_buffer("targets").fill_(0.6)
    rows = gradients("generic", 2)
    raised = [_after_one(rows, 0), _after_one(rows, 1)]
    np.testing.assert_allclose(coefficients(balancer, rows) @ rows, (raised[0] + raised[1]) / 2, rtol=1e-10)
    for own, other in ((0, 1), (1, 0)):
        cosine = raised[own] @ rows[other] / (np.linalg.norm(raised[own]) * np.linalg.norm(rows[other]))
        assert cosine == pytest.approx(0.6)


def _after_one(rows: Array, task: int) -> Array:
    reference = Vaccine(2, 0.01)
    reference.targets[:] = 0.6
    return reference._pair(rows, rows[task], task, 1 - task)


def test_targets_of_one_stay_bounded() -> None:
    """Parallel gradients first, so that phi_hat is 1; then orthogonal ones."""
    balancer = create_balancer("gradvac", 2, beta=1.0)
    coefficients(balancer, np.array([[1.0, 0.0], [2.0, 0.0]]))
    assert balancer.get_buffer("targets")[0, 1].item() == pytest.approx(1)
    actual = coefficients(balancer, np.array([[1.0, 0.0], [0.0, 2.0]]))
    steep = 0.999 / np.sqrt(1 - 0.999**2)
    np.testing.assert_allclose(actual, [(1 + 2 * steep) / 2, (1 + steep / 2) / 2], rtol=1e-9)


def test_exactly_opposed_gradients_have_no_direction_left() -> None:
    balancer = create_balancer("gradvac", 3, beta=0.5)
    rows = np.array([[1.0, 0.0, 0.0], [-3.0, 0.0, 0.0], [1.0, 1e-3, 0.0]])
    for _ in range(5):
        assert np.isfinite(coefficients(balancer, rows)).all()
    targets = balancer.get_buffer("targets")
    assert (targets.abs() <= 1).all()
