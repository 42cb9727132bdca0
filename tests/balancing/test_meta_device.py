"""A layer that is built on the meta device, as for FSDP, and then receives memory."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from dlrm_mtl.balancing import Balancer, BalancingLayer, MultiBalance, available_balancers, create_balancer
from tests.balancing.backward import backward_with, state_of
from tests.messages import naming

TASKS = 3
METHODS = (
    *available_balancers(),
    "torchjd:UPGrad",
    "torchjd:GradVac",
    "uncertainty+mgda",
    "own",
)
OPTIONS: dict[str, dict[str, Any]] = {
    "multibalance": {"prior": [0.5, 0.2, 0.3]},
    "static": {"weights": [1.0, 2.0, 3.0]},
    "db_mtl": {"average": 0.5},
    "sdmgrad": {"prior": [0.5, 0.2, 0.3]},
}


class Unit(Balancer):
    """A method outside this package, with state of every kind."""

    def __init__(self, num_tasks: int, device: str = "cpu") -> None:
        super().__init__(num_tasks)
        self.register_task_state("rows", torch.ones(num_tasks, device=device))
        self.register_buffer("offset", torch.full((2,), 0.5, device=device), persistent=False)

    def coefficients(self, statistic: Tensor, losses: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        return statistic.diagonal().rsqrt() + self.get_buffer("offset").sum(), {"rows": self.get_buffer("rows") + 1}


def create(method: str, reduction: Any = "exact") -> BalancingLayer:
    balancer = Unit(TASKS) if method == "own" else create_balancer(method, TASKS, **OPTIONS.get(method, {}))
    return BalancingLayer(balancer, reduction=reduction)


def on_meta(method: str, reduction: Any = "exact") -> BalancingLayer:
    with torch.device("meta"):
        layer = create(method, reduction)
    assert all(tensor.is_meta for tensor in tensors_of(layer).values())
    return layer


def tensors_of(layer: BalancingLayer) -> dict[str, Tensor]:
    return {**dict(layer.named_buffers()), **dict(layer.named_parameters())}


def train(layer: BalancingLayer, first: int = 0, steps: int = 4) -> list[Tensor]:
    found = []
    for step in range(first, first + steps):
        generator = torch.Generator().manual_seed(step)
        layer.weigh_losses(torch.rand(TASKS, generator=generator) + 0.1)
        combined = backward_with(layer, list(torch.randn(TASKS, 6, 5, generator=generator)))
        assert combined is not None
        found.append(combined)
    return found


def assert_same(layer: BalancingLayer, expected: BalancingLayer) -> None:
    actual = tensors_of(layer)
    assert not any(tensor.is_meta for tensor in actual.values())
    torch.testing.assert_close(actual, tensors_of(expected), rtol=0, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_to_empty_gives_initial_values(method: str) -> None:
    """With and without ``reset_parameters``, which only some frameworks call."""
    for reset in (True, False):
        layer = on_meta(method).to_empty(device="cpu")
        if reset:
            layer.reset_parameters()
        assert_same(layer, create(method))
        torch.testing.assert_close(train(layer), train(create(method)), rtol=0, atol=0)


@pytest.mark.parametrize("reduction", ["exact", "delayed"])
@pytest.mark.parametrize("method", METHODS)
def test_a_reset_layer_is_like_a_new_one(method: str, reduction: str) -> None:
    layer = create(method, reduction)
    first = train(layer)
    for parameter in layer.parameters():
        parameter.data.fill_(3.0)
    layer.reset_parameters()
    assert layer.record is None
    assert_same(layer, create(method, reduction))
    torch.testing.assert_close(train(layer), first, rtol=0, atol=0)
    trained = create(method, reduction)
    train(trained)
    for tensor in tensors_of(trained.to_empty(device="cpu")).values():
        tensor.data.fill_(7)
    trained.reset_parameters()
    torch.testing.assert_close(train(trained), first, rtol=0, atol=0)


@pytest.mark.parametrize("reduction", ["exact", "delayed"])
@pytest.mark.parametrize("method", METHODS)
def test_loaded_with_assign(method: str, reduction: str) -> None:
    source = create(method, reduction)
    train(source)
    state = state_of(source)
    layer = on_meta(method, reduction)
    layer.load_state_dict(source.state_dict(), assign=True)
    assert_same(layer, with_state(create(method, reduction), state))
    expected = train(source, 4)
    torch.testing.assert_close(train(layer, 4), expected, rtol=0, atol=0)
    again = create(method, reduction)
    again.load_state_dict(state, assign=True)
    torch.testing.assert_close(train(again, 4), expected, rtol=0, atol=0)


def with_state(layer: BalancingLayer, state: dict[str, Tensor]) -> BalancingLayer:
    layer.load_state_dict(state)
    return layer


def test_the_state_is_the_layers_own() -> None:
    """Also with assign=True: two layers must not share a count of steps."""
    source, layer = create("multibalance"), on_meta("multibalance")
    layer.load_state_dict(source.state_dict(), assign=True)
    train(layer)
    assert source.balancer.step.item() == 0


@pytest.mark.parametrize("method", ["multibalance", "moco", "uncertainty", "gradvac"])
def test_a_new_task_gets_initial_values_with_assign(method: str) -> None:
    source = BalancingLayer(create_balancer(method, 2, task_names=["a", "b"]))
    backward_with(source, list(torch.randn(2, 6, 5)))
    with torch.device("meta"):
        layer = BalancingLayer(create_balancer(method, 3, task_names=["b", "c", "a"]))
    layer.load_state_dict(source.state_dict(), assign=True, strict=False)
    usual = BalancingLayer(create_balancer(method, 3, task_names=["b", "c", "a"]))
    usual.load_state_dict(source.state_dict(), strict=False)
    assert_same(layer, usual)


def test_a_state_dict_of_something_else_leaves_it_on_meta() -> None:
    layer = on_meta("multibalance")
    layer.load_state_dict({}, assign=True, strict=False)
    assert all(tensor.is_meta for tensor in tensors_of(layer).values())
    layer.to_empty(device="cpu")
    assert_same(layer, create("multibalance"))


def test_initial_values_without_values_are_refused() -> None:
    with pytest.raises(ValueError, match=naming("rows", "meta")):
        Unit(TASKS, device="meta")


@pytest.mark.parametrize("reduction", ["exact", "delayed"])
@pytest.mark.parametrize("method", METHODS)
def test_copies_continue_alike(method: str, reduction: str) -> None:
    layer = create(method, reduction)
    train(layer)
    twins = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
    expected = train(layer, 4)
    for twin in twins:
        torch.testing.assert_close(train(twin, 4), expected, rtol=0, atol=0)


def test_casts_leave_the_state_in_float64() -> None:
    layer = BalancingLayer(MultiBalance(TASKS)).half()
    layer.reset_parameters()
    assert layer.balancer.weights.dtype == torch.float64
    assert layer.balancer.norms.dtype == torch.float64
