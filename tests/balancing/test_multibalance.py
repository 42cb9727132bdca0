"""MultiBalance against a plain transcription of Algorithm 3 on explicit float64 vectors."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dlrm_mtl.balancing import MultiBalance, create_balancer
from tests.balancing.reference import Algorithm3, Array

pytestmark = pytest.mark.usefixtures("both_ways")

STEPS = 60
SIZE = 40


def random_gradients(num_tasks: int, scales: Array, seed: int, opposed: bool = False) -> list[Array]:
    """STEPS draws of (M, SIZE) gradients that share a drifting part; `opposed` turns it against every other task."""
    generator = np.random.default_rng(seed)
    common = generator.normal(size=SIZE)
    signs = np.array([-1.0 if opposed and m % 2 else 1.0 for m in range(num_tasks)])
    draws = []
    for _ in range(STEPS):
        common = 0.9 * common + 0.3 * generator.normal(size=SIZE)
        own = generator.normal(size=(num_tasks, SIZE))
        size = generator.uniform(0.3, 3.0, size=(num_tasks, 1))
        draws.append(scales[:, None] * size * (signs[:, None] * common + own))
    return draws


def assert_follows(draws: list[Array], prior: Array | None = None, **options: Any) -> None:
    """Runs the package and the reference side by side and compares every quantity after every step."""
    num_tasks = len(draws[0])
    given = {} if prior is None else {"prior": prior.tolist()}
    balancer = create_balancer("multibalance", num_tasks, **given, **options)
    assert isinstance(balancer, MultiBalance)
    uniform = np.full(num_tasks, 1 / num_tasks)
    reference = Algorithm3(prior=uniform if prior is None else prior, **options)
    for k, gradients in enumerate(draws):
        expected = reference(gradients)
        actual = balancer.combine(torch.from_numpy(gradients)).numpy()
        largest = max(np.linalg.norm(gradients, axis=1).max(), max(u or 0.0 for u in reference.norms))
        assert np.abs(actual - expected).max() <= 1e-9 * largest, f"gradient, step {k}"
        np.testing.assert_allclose(
            balancer.task_weights().numpy(), reference.weights, rtol=0, atol=1e-9, err_msg=f"lambda, step {k}"
        )
        norms = np.array([u or 0.0 for u in reference.norms])
        np.testing.assert_allclose(balancer.norms.numpy(), norms, rtol=1e-9, err_msg=f"u, step {k}")
    assert balancer.step.item() == len(draws)


@pytest.mark.parametrize("direction", ["cosine", "gradient"])
@pytest.mark.parametrize("num_tasks", [1, 2, 3, 5, 8])
def test_defaults(num_tasks: int, direction: str) -> None:
    draws = random_gradients(num_tasks, np.full(num_tasks, 0.1), seed=num_tasks)
    assert_follows(draws, direction=direction)


@pytest.mark.parametrize("direction", ["cosine", "gradient"])
@pytest.mark.parametrize(
    "options",
    [
        {"beta": 0.1},
        {"beta": 0.0},
        {"beta": 5.0},
        {"rho": 0.0},
        {"rho": 2.0},
        {"gamma": 1.0},
        {"gamma": 0.5},
        {"prior_in_direction": 0.5},
        {"max_rescale": 1.1},
        {"max_rescale": 0.8, "gamma": 0.3, "beta": 0.3},
        {"beta": 0.2, "rho": 0.5, "gamma": 0.7, "prior_in_direction": 0.1, "max_rescale": 1.5},
    ],
    ids=str,
)
@pytest.mark.parametrize("prior", [None, np.array([0.7, 0.2, 0.1])], ids=["uniform", "prior"])
def test_options(options: dict[str, float], direction: str, prior: Array | None) -> None:
    draws = random_gradients(3, np.array([0.2, 0.1, 0.3]), seed=11)
    assert_follows(draws, prior, direction=direction, **options)


def test_prior_with_a_zero_entry() -> None:
    draws = random_gradients(3, np.full(3, 0.1), seed=3)
    assert_follows(draws, np.array([0.5, 0.5, 0.0]), prior_in_direction=0.5)


@pytest.mark.parametrize("scale", [1e-4, 1e-6, 1e-12])
def test_tiny_gradients(scale: float) -> None:
    draws = random_gradients(3, np.array([1.0, 3.0, 0.5]) * scale / SIZE**0.5, seed=4)
    assert_follows(draws, beta=0.5, gamma=0.2)
    assert_follows(draws, direction="gradient", beta=0.1 / scale**2)


@pytest.mark.parametrize("scales", [[1e5, 1.0], [1e5, 1.0, 1.0], [1e-6, 1e-1, 1e-3]])
def test_tasks_of_very_different_scale(scales: list[float]) -> None:
    assert_follows(random_gradients(len(scales), np.array(scales), seed=6), beta=0.3)


@pytest.mark.parametrize("direction", ["cosine", "gradient"])
@pytest.mark.parametrize("num_tasks", [2, 3, 4])
def test_conflicting_gradients(num_tasks: int, direction: str) -> None:
    draws = random_gradients(num_tasks, np.full(num_tasks, 0.3), seed=8, opposed=True)
    assert_follows(draws, direction=direction, beta=0.2)


def test_exactly_opposed_gradients_leave_the_weights_alone() -> None:
    balancer = MultiBalance(2)
    for row in random_gradients(1, np.ones(1), seed=2):
        combined = balancer.combine(torch.from_numpy(np.vstack([row, -row])))
        assert combined.abs().max() <= 1e-12
        torch.testing.assert_close(balancer.task_weights(), torch.full((2,), 0.5, dtype=torch.float64))


def test_tasks_that_are_absent_from_some_steps() -> None:
    draws = random_gradients(3, np.full(3, 0.1), seed=9)
    for k, gradients in enumerate(draws):
        gradients[k % 3] = 0.0
        if k % 7 == 0:
            gradients[:] = 0.0
    assert_follows(draws, beta=0.3)


def test_beta_schedule_sees_the_number_of_steps_done() -> None:
    def warm_down(step: Tensor) -> Tensor:
        return 1.0 / (1.0 + step)

    draws = random_gradients(3, np.full(3, 0.1), seed=10)
    balancer = create_balancer("multibalance", 3, beta=warm_down)
    reference = Algorithm3(prior=np.full(3, 1 / 3), beta=lambda step: 1.0 / (1.0 + step))
    for gradients in draws:
        expected = reference(gradients)
        np.testing.assert_allclose(balancer.combine(torch.from_numpy(gradients)).numpy(), expected, atol=1e-9)
        np.testing.assert_allclose(balancer.task_weights().numpy(), reference.weights, atol=1e-9)


def test_first_step_takes_the_norm_itself() -> None:
    gradients = torch.tensor([[3.0, 4.0], [0.0, 2.0]], dtype=torch.float64)
    balancer = MultiBalance(2, beta=0.0)
    combined = balancer.combine(gradients)
    torch.testing.assert_close(balancer.norms, torch.tensor([5.0, 2.0], dtype=torch.float64))
    torch.testing.assert_close(combined, gradients.mean(dim=0))


def test_task_first_seen_later_starts_with_its_first_norm() -> None:
    balancer = MultiBalance(2, gamma=0.25)
    balancer.combine(torch.tensor([[4.0, 0.0], [0.0, 0.0]], dtype=torch.float64))
    assert balancer.norms.tolist() == [4.0, 0.0]
    balancer.combine(torch.tensor([[8.0, 0.0], [0.0, 6.0]], dtype=torch.float64))
    assert balancer.norms.tolist() == [5.0, 6.0]


def test_absent_task_keeps_its_norm_and_gives_nothing() -> None:
    balancer = MultiBalance(2, beta=0.0, gamma=0.5)
    balancer.combine(torch.tensor([[4.0, 0.0], [0.0, 2.0]], dtype=torch.float64))
    combined = balancer.combine(torch.tensor([[2.0, 0.0], [0.0, 0.0]], dtype=torch.float64))
    assert balancer.norms.tolist() == [3.0, 2.0]
    assert combined.tolist() == [1.5, 0.0]


def test_single_task_is_the_rescaled_gradient() -> None:
    balancer = MultiBalance(1, gamma=0.5)
    balancer.combine(torch.tensor([[3.0, 4.0]], dtype=torch.float64))
    combined = balancer.combine(torch.tensor([[0.0, 1.0]], dtype=torch.float64))
    assert combined.tolist() == [0.0, 3.0]
    assert balancer.task_weights().tolist() == [1.0]


def test_gamma_one_keeps_the_gradients_as_they_are() -> None:
    balancer = MultiBalance(3, gamma=1.0)
    for gradients in random_gradients(3, np.array([1.0, 5.0, 0.1]), seed=1)[:10]:
        rows = torch.from_numpy(gradients)
        torch.testing.assert_close(balancer.combine(rows), balancer.task_weights() @ rows, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1e6])
def test_cosine_form_is_invariant_to_a_common_scale(scale: float) -> None:
    one, other = MultiBalance(3), MultiBalance(3)
    for gradients in random_gradients(3, np.array([1.0, 5.0, 0.1]), seed=13):
        combined = one.combine(torch.from_numpy(gradients))
        torch.testing.assert_close(
            other.combine(torch.from_numpy(scale * gradients)), scale * combined, rtol=1e-9, atol=0
        )
        torch.testing.assert_close(other.task_weights(), one.task_weights(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cosine_step_is_bounded_where_gradients_cancel(dtype: torch.dtype) -> None:
    """A cosine is at most 1, so lambda moves by at most beta sqrt(M), also where rounding is all that is left of d."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        balancer = MultiBalance(3, beta=1e-3, rho=0.0)
        pair = torch.randn(2, 30, generator=generator, dtype=dtype)
        balancer.combine(torch.stack([pair[0], pair[1], -pair[0] - pair[1]]))
        assert (balancer.task_weights() - 1 / 3).norm() <= 1e-3 * 3**0.5 * (1 + 1e-9)


def test_rare_task_is_capped() -> None:
    balancer = MultiBalance(2, beta=0.0, max_rescale=10.0)
    balancer.combine(torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64))
    combined = balancer.combine(torch.tensor([[1.0, 0.0], [0.0, 1e-6]], dtype=torch.float64))
    torch.testing.assert_close(combined, torch.tensor([0.5, 0.5e-5], dtype=torch.float64))


def test_the_recommended_recipe_is_multibalance_with_other_defaults_as_long_as_the_mean() -> None:
    recommended = create_balancer("multibalance_recommended", 3)
    plain = create_balancer("multibalance", 3, beta=0.1, gamma=0.1, prior_in_direction=0.5, max_rescale=1.0)
    for gradients in random_gradients(3, np.full(3, 0.1), seed=5):
        rows = torch.from_numpy(gradients)
        torch.testing.assert_close(recommended.combine(rows), plain.combine(rows) / 1.5, rtol=1e-12, atol=0)
    assert torch.equal(recommended.task_weights(), plain.task_weights())
    same = torch.ones(3, 4, dtype=torch.float64)
    torch.testing.assert_close(create_balancer("multibalance_recommended", 3).combine(same), same[0])
