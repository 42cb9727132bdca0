"""reduction="delayed" in one process: each step applies the coefficients of the previous one."""

import pytest
import torch
from torch import Tensor

from dlrm_mtl.balancing import BalancingLayer, MultiBalance, create_balancer
from dlrm_mtl.balancing.methods.create import METHODS
from tests.balancing.backward import backward_with


def draws(count: int) -> list[Tensor]:
    return list(torch.randn(count, 3, 1, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64))


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"graddrop"}))
def test_coefficients_of_the_previous_step(name: str) -> None:
    """Those that depend on nothing are of the present step."""
    layer, twin = BalancingLayer(create_balancer(name, 3), reduction="delayed"), create_balancer(name, 3)
    coefficients = twin.initial_coefficients().clone()
    for rows in draws(10):
        losses = rows[:, 0, 0].exp()
        if not twin.depends_on_batch:
            coefficients = twin.update(twin.measure(list(rows), rows.device), losses)
        torch.testing.assert_close(
            backward_with(layer, list(rows), losses), torch.tensordot(coefficients, rows, 1), rtol=1e-12, atol=1e-15
        )
        if twin.depends_on_batch:
            coefficients = twin.update(twin.measure(list(rows), rows.device), losses)


def test_first_step_uses_the_prior() -> None:
    prior = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    layer = BalancingLayer(MultiBalance(3, prior=prior.tolist(), prior_in_direction=0.5), reduction="delayed")
    rows = draws(1)[0]
    torch.testing.assert_close(
        backward_with(layer, list(rows)), 1.5 * torch.tensordot(prior, rows, 1), rtol=1e-12, atol=1e-15
    )
    assert layer.balancer.step.item() == 0


def test_non_finite_step_is_noticed_one_step_later() -> None:
    layer = BalancingLayer(MultiBalance(3), reduction="delayed")
    first, second, third, fourth = draws(4)
    second[1, 0, 0] = float("nan")
    backward_with(layer, list(first))
    assert not backward_with(layer, list(second)).isfinite().all()
    state = layer.balancer.task_weights().clone()
    assert backward_with(layer, list(third)).isfinite().all()
    assert torch.equal(layer.balancer.task_weights(), state)
    assert layer.balancer.nonfinite_steps.item() == 1
    assert backward_with(layer, list(fourth)).isfinite().all()
