"""No host synchronisation in forward or backward."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dlrm_mtl.balancing import BalancingLayer, MultiBalance, available_balancers, create_balancer, min_norm_point
from tests.balancing.methods.test_invariants import GRADIENT_METHODS, Method, create, method_id

SYNCHRONISING = (
    "_local_scalar_dense",
    "item",
    "nonzero",
    "masked_select",
    "equal",
    "is_nonzero",
    "unique",
    "_linalg_check_errors",
)


class NoHostSync(TorchDispatchMode):
    """Fails on every operator whose result the host has to wait for."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        if name in SYNCHRONISING:
            raise AssertionError(f"{function} synchronises with the device")
        return function(*args, **(kwargs or {}))


@contextlib.contextmanager
def no_host_sync(device: str) -> Iterator[None]:
    with NoHostSync():
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            if device == "cuda":
                torch.cuda.set_sync_debug_mode("default")


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def step(layer: BalancingLayer, device: str, dtype: torch.dtype, watched: bool = True) -> Tensor:
    shared = torch.randn(8, 4, device=device, dtype=dtype, requires_grad=True)
    targets = [torch.randn(8, 4, device=device, dtype=dtype) for _ in range(layer.num_tasks)]
    losses = torch.rand(layer.num_tasks, device=device)
    with no_host_sync(device) if watched else contextlib.nullcontext():
        layer.weigh_losses(losses)
        views = layer(shared)
        torch.autograd.backward(list(views), targets)
    assert shared.grad is not None
    return shared.grad


def build(layer: BalancingLayer, device: str, dtype: torch.dtype = torch.float32) -> BalancingLayer:
    """On the device, after a first step, in which the host waits for tables of constants to be copied to a GPU."""
    if device == "cuda":
        step(layer.to(device), device, dtype, watched=False)
    return layer


def test_the_check_itself_can_fail() -> None:
    with pytest.raises(AssertionError, match="synchronises"), no_host_sync("cpu"):
        float(torch.ones(()))
    with pytest.raises(AssertionError, match="synchronises"), no_host_sync("cpu"):
        bool(torch.ones(2).sum() > 1)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", available_balancers())
def test_a_step_never_waits(name: str, dtype: torch.dtype, device: str) -> None:
    layer = build(BalancingLayer(create_balancer(name, 3)), device, dtype)
    for _ in range(2):
        assert step(layer, device, dtype).isfinite().all()
    layer.observe()
    step(layer, device, dtype)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("num_tasks", [1, 3, 8])
@pytest.mark.parametrize("method", GRADIENT_METHODS, ids=method_id)
def test_options_never_wait(method: Method, num_tasks: int, device: str) -> None:
    """With losses, and with gradients that are zero or not finite, where a method might branch."""
    layer = BalancingLayer(create(method, num_tasks)).to(device)
    losses = torch.rand(num_tasks, device=device)
    rows = torch.randn(num_tasks, 8, 4, device=device)
    silent, broken = rows.clone(), rows.clone()
    silent[0] = 0
    broken[0, 0, 0] = float("nan")
    for index, given in enumerate((rows, silent, broken, rows, rows)):
        shared = torch.randn(8, 4, device=device, requires_grad=True)
        with no_host_sync(device) if index or device == "cpu" else contextlib.nullcontext():
            layer.weigh_losses(losses)
            torch.autograd.backward(list(layer(shared)), list(given))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("reduction", ["delayed", "local"])
def test_other_reductions_never_wait(reduction: Any, device: str) -> None:
    layer = build(BalancingLayer(MultiBalance(3), reduction=reduction), device)
    for _ in range(3):
        step(layer, device, torch.float32)


@pytest.mark.parametrize("device", DEVICES)
def test_options_of_multibalance_never_wait(device: str) -> None:
    def schedule(count: Tensor) -> Tensor:
        return 1 / (1 + count)

    balancer = MultiBalance(3, schedule, direction="gradient", prior_in_direction=0.5, max_rescale=2.0)
    layer = build(BalancingLayer(balancer), device)
    for _ in range(2):
        step(layer, device, torch.float32)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("num_tasks", [1, 3, 8, 10])
def test_min_norm_point_never_waits(num_tasks: int, device: str) -> None:
    rows = torch.randn(num_tasks, 20, device=device, dtype=torch.float64)
    min_norm_point(rows @ rows.T)  # tables of supports are built once, on the host
    with no_host_sync(device):
        min_norm_point(rows @ rows.T)
