"""A CPU, whose values the host reads, gives what the operations of a GPU give."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from dlrm_mtl.balancing import Balancer, BalancingLayer, Mean, MultiBalance
from dlrm_mtl.balancing.algebra.finite import readable_on_host
from tests.balancing.backward import backward_with, record_of, state_of
from tests.balancing.methods.test_invariants import GRADIENT_METHODS, Method, create, method_id
from tests.balancing.tracing import traced_operators
from tests.messages import naming

METHODS: list[Method] = [
    ("mean", {}),
    ("multibalance", {}),
    ("multibalance", {"direction": "gradient", "beta": 0.01, "gamma": 0.7}),
    ("multibalance_recommended", {}),
    *GRADIENT_METHODS,
]
TASKS = 3


def steps() -> list[tuple[list[Tensor | None], Tensor]]:
    """Gradients and losses of consecutive steps: ordinary ones, some without a gradient, some not finite."""
    generator = torch.Generator().manual_seed(0)
    draws = []
    for step in range(8):
        rows: list[Tensor | None] = list(torch.randn(TASKS, 6, 5, generator=generator))
        losses = torch.rand(TASKS, generator=generator)
        if step == 2:
            rows[1] = None
        if step == 3:
            rows[0] = torch.zeros(6, 5)
        if step == 4:
            rows[2] = torch.full((6, 5), float("inf"))
        if step == 6:
            losses[0] = float("nan")
        draws.append((rows, losses))
    return draws


def run(method: Method, reduction: Any) -> list[Any]:
    layer = BalancingLayer(create(method, TASKS), reduction=reduction)
    actual: list[Any] = []
    for step, (rows, losses) in enumerate(steps()):
        if step == 5:
            layer.observe()
        layer.weigh_losses(losses)
        combined = backward_with(layer, rows)
        assert layer.record is not None
        actual.append([combined, *vars(layer.record).values(), layer.nonfinite_tasks.clone(), state_of(layer)])
    return actual


@pytest.mark.parametrize("reduction", ["exact", "delayed"])
@pytest.mark.parametrize("method", METHODS, ids=method_id)
def test_numpy_and_tensors_give_the_same_steps(method: Method, reduction: str) -> None:
    on_host = run(method, reduction)
    with traced_operators():
        expected = run(method, reduction)
    torch.testing.assert_close(on_host, expected, rtol=2e-6, atol=1e-7, equal_nan=True)
    counts = [step[-1]["balancer.nonfinite_steps"].item() for step in on_host]
    assert counts == [step[-1]["balancer.nonfinite_steps"].item() for step in expected]


def test_values_are_readable_on_the_host_unless_operators_are_traced() -> None:
    assert readable_on_host(torch.ones(2))
    assert not readable_on_host(torch.ones(2, device="meta"))
    with traced_operators():
        assert not readable_on_host(torch.ones(2))


def test_the_next_step_does_not_change_results() -> None:
    """Returned arrays are not the state's memory."""
    layer = BalancingLayer(create(("multibalance", {}), TASKS))
    backward_with(layer, list(torch.randn(TASKS, 6, 5)))
    assert layer.record is not None
    before = [value.clone() for value in vars(layer.record).values()]
    record = layer.record
    for _ in range(3):
        backward_with(layer, list(torch.randn(TASKS, 6, 5)))
    assert all(torch.equal(*pair) for pair in zip(vars(record).values(), before, strict=True))


def test_the_default_device_does_not_matter() -> None:
    """The default device may be a GPU while training runs on the CPU."""
    layer = BalancingLayer(create(("multibalance", {}), TASKS))
    rows = list(torch.randn(TASKS, 6, 5))
    with torch.device("meta"):
        actual = layer.balancer.update(layer.balancer.measure(rows, rows[0].device))
        combined = layer.balance([tuple(rows)])[0]
        assert layer.record is not None
        assert combined is not None
        for values in (actual, combined, *vars(layer.record).values()):
            assert values.device.type == "cpu"
            assert values.isfinite().all()


class Half(MultiBalance):
    """A subclass, written for tensors, of a method that takes NumPy arrays."""

    def coefficients(self, statistic: Tensor, losses: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        coefficients, state = super().coefficients(statistic, losses)
        return 0.5 * coefficients, state


class Double(Mean):
    def coefficients(self, statistic: Tensor, losses: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        return 2 * self.weights, {}


class OnlyFirst(MultiBalance):
    """Measures the Gramian of the first task's gradient alone."""

    def measure(self, gradients: Sequence[Tensor | None], device: torch.device) -> Tensor:
        return super().measure([gradients[0]] * self.num_tasks, device)


def test_a_subclass_may_override_the_measure() -> None:
    layer = BalancingLayer(OnlyFirst(TASKS))
    rows: list[Tensor | None] = list(torch.randn(TASKS, 6, 5))
    backward_with(layer, rows)
    assert isinstance(rows[0], Tensor)
    torch.testing.assert_close(record_of(layer).gramian, rows[0].double().square().sum().expand(TASKS, TASKS))


@pytest.mark.parametrize(("derived", "base", "factor"), [(Half, MultiBalance, 0.5), (Double, Mean, 2.0)])
def test_a_subclass_may_override_the_coefficients(derived: type[Balancer], base: type[Balancer], factor: float) -> None:
    rows: list[Tensor | None] = list(torch.randn(TASKS, 6, 5))
    combined, expected = (backward_with(BalancingLayer(kind(TASKS)), rows) for kind in (derived, base))
    torch.testing.assert_close(combined, factor * expected)


def test_state_on_another_device_is_an_error() -> None:
    layer = BalancingLayer(MultiBalance(TASKS))
    layer.balancer.to("meta")
    with pytest.raises(ValueError, match=naming("(3,)", "torch.float64", "meta", "CPU")):
        layer.balance([tuple(torch.randn(TASKS, 6, 5))])


@pytest.mark.parametrize("method", ["mean", "multibalance"])
def test_a_rank_without_rows(method: str) -> None:
    layer = BalancingLayer(create((method, {}), TASKS))
    combined = layer.balance([tuple(torch.empty(TASKS, 0, 5))])[0]
    assert combined is not None
    assert combined.shape == (0, 5)
    assert layer.balancer.step == 1


def test_inputs_that_are_part_of_a_graph() -> None:
    """Losses of a model, a statistic, and a learned schedule."""
    rate = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    rows, losses = torch.randn(TASKS, 5, dtype=torch.float64), torch.rand(TASKS, requires_grad=True)
    for balancer in (MultiBalance(TASKS, beta=lambda step: rate * 1), create(("db_mtl", {"log_losses": True}), TASKS)):
        combined = balancer.combine(rows, losses)
        assert combined.isfinite().all()
        gramian = (rows @ rows.T).requires_grad_()
        assert not balancer.update(gramian, losses).requires_grad
        assert not any(buffer.requires_grad for buffer in balancer.buffers())
