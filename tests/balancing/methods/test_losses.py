"""Methods that follow from the losses, against TorchJD's scalarizations."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchjd import scalarization
from torchjd.scalarization import Scalarizer

from dlrm_mtl.balancing import create_balancer
from tests.balancing.methods.cases import TASKS, coefficients, fresh, gradients
from tests.balancing.reference import Array

STEPS = 12
double = pytest.mark.usefixtures("double_precision")


@pytest.fixture
def double_precision() -> Any:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def loss_sequence(num_tasks: int) -> list[Array]:
    """Positive, noisy, and falling at different rates."""
    random = np.random.default_rng(num_tasks)
    rates = np.linspace(0.01, 0.2, num_tasks)
    return [np.exp(-rates * step + 0.2 * random.standard_normal(num_tasks)) for step in range(STEPS)]


def weights_of(scalarizer: Scalarizer, losses: Array) -> Array:
    """The derivative with respect to the losses, scaled to the sum 1."""
    values = torch.from_numpy(losses).requires_grad_()
    scalarizer(values).backward()
    assert isinstance(values.grad, Tensor)
    weights: Array = values.grad.numpy() / values.grad.numpy().sum()
    return weights


@double
@pytest.mark.parametrize("num_tasks", TASKS)
@pytest.mark.parametrize("options", [{}, {"learning_rate": 0.3, "decay": 0.1}])
def test_famo_with_the_next_batch_after_the_step(num_tasks: int, options: dict[str, Any]) -> None:
    names = {"learning_rate": "lr", "decay": "weight_decay"}
    reference = scalarization.FAMO(num_tasks, **{names[key]: value for key, value in options.items()})
    balancer = create_balancer("famo", num_tasks, **options)
    rows = gradients("generic", num_tasks)
    for step, losses in enumerate(loss_sequence(num_tasks)):
        if step:
            reference.update(torch.from_numpy(losses))
        # TorchJD adds 1e-8 to each loss.
        np.testing.assert_allclose(coefficients(balancer, rows, losses), weights_of(reference, losses), rtol=1e-5)
    assert np.ptp(balancer.logits.numpy()) > 0.01  # type: ignore[operator]


@double
@pytest.mark.parametrize("num_tasks", TASKS)
@pytest.mark.parametrize(("window", "temperature"), [(1, 2.0), (3, 0.5)])
def test_dwa_with_windows_as_epochs(num_tasks: int, window: int, temperature: float) -> None:
    reference = scalarization.DWA(temperature)
    balancer = create_balancer("dwa", num_tasks, window=window, temperature=temperature)
    rows = gradients("generic", num_tasks)
    for step, losses in enumerate(loss_sequence(num_tasks)):
        actual = coefficients(balancer, rows, losses)
        np.testing.assert_allclose(actual, weights_of(reference, losses), rtol=1e-9)
        assert (np.ptp(actual) > 1e-3) == (step >= 2 * window)
        if (step + 1) % window == 0:
            reference.step()


def test_dwa_averages_over_the_steps_with_rows() -> None:
    """In the third window, the second task has no row; its rate then is that of the windows before."""
    balancer = create_balancer("dwa", 3, window=2, temperature=1.0)
    rows, losses = gradients("generic", 3), np.array([1.0, 1.0, 1.0])
    falling = [[1.0, 4.0, 0.0], [1.0, 2.0, 3.0], [1.0, 0.0, 3.0], [1.0, 1.5, 3.0], [1.0, 0.0, 1.0], [1.0, 0.0, 1.0]]
    for values in falling:
        coefficients(balancer, rows, np.array(values))
    rates = np.array([1.0, 1.5 / 3, 1.0 / 3])
    expected = np.exp(rates) / np.exp(rates).sum()
    np.testing.assert_allclose(coefficients(balancer, rows, losses), expected, rtol=1e-12)


@double
@pytest.mark.parametrize("num_tasks", TASKS)
@pytest.mark.parametrize("mu", [1.0, 0.01])
@pytest.mark.parametrize("named", [False, True])
def test_stch(num_tasks: int, mu: float, named: bool) -> None:
    losses = np.linspace(0.3, 2, num_tasks)
    options: dict[str, Any] = {"mu": mu}
    reference = scalarization.STCH(mu)
    if named:
        prior, ideal = np.linspace(1, 2, num_tasks), np.linspace(0.2, 0, num_tasks)
        prior /= prior.sum()
        reference = scalarization.STCH(mu, torch.from_numpy(prior), torch.from_numpy(ideal))
        options |= {"prior": by_task(prior), "ideal": by_task(ideal)}
    actual = fresh("stch", gradients("generic", num_tasks), losses, **options)
    np.testing.assert_allclose(actual, weights_of(reference, losses), rtol=1e-9, atol=1e-300)
    assert actual.argmax() == num_tasks - 1


def by_task(values: Array) -> dict[str, float]:
    return {f"task{m}": float(value) for m, value in enumerate(values)}


@pytest.mark.parametrize("name", ["dwa", "famo", "stch"])
def test_gradients_do_not_count(name: str) -> None:
    losses = np.array([0.1, 2.0, 0.7])
    generic, scaled = (fresh(name, gradients(case, 3), losses) for case in ("generic", "scaled"))
    np.testing.assert_array_equal(scaled, generic)


@pytest.mark.parametrize("name", ["dwa", "famo"])
def test_a_task_without_a_positive_loss_is_left_out(name: str) -> None:
    balancer = create_balancer(name, 3)
    for losses in ([1.0, 0.0, 3.0], [0.5, 0.0, 2.0], [0.5, 1.0, 1.5]):
        actual = coefficients(balancer, gradients("generic", 3), np.array(losses))
        assert actual.sum() == pytest.approx(1)
        assert ((actual > 0) == (np.array(losses) > 0)).all()


@pytest.mark.parametrize("loss", [1e-3, 0.3, 5.0])
def test_liebel_descends_to_its_optimum(loss: float) -> None:
    weighting = create_balancer("liebel", 1).loss_weighting
    assert weighting is not None
    optimizer = torch.optim.LBFGS(
        weighting.parameters(), max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = weighting(torch.tensor([loss])).sum()
        value.backward()
        return value

    assert closure().item() == pytest.approx(loss / 2 + np.log(2))
    optimizer.step(closure)
    assert weighting.weights().item() == pytest.approx(2 / (loss + np.sqrt(loss**2 + 8 * loss)), rel=1e-3)
