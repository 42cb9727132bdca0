"""A run of the layer on given gradients, to be interrupted and resumed."""

import io
import zlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dlrm_mtl.balancing import BalancingLayer, available_balancers, create_balancer
from dlrm_mtl.balancing.layer import Reduction
from tests.balancing.methods.test_invariants import OPTIONS, Method
from tests.balancing.methods.test_torchjd import NAMES
from tests.balancing.methods.test_torchjd import OPTIONS as TORCHJD_OPTIONS

REDUCTIONS: tuple[Reduction, ...] = ("exact", "delayed", "local")
TORCHJD_METHODS: list[Method] = [(f"torchjd:{name}", TORCHJD_OPTIONS.get(name, {})) for name in NAMES]
ALL_METHODS: list[Method] = [
    *((name, {}) for name in available_balancers()),
    *OPTIONS,
    ("imtl_l+imtl_g", {}),
    ("uncertainty+multibalance", {"beta": 0.3, "gamma": 0.3}),
    ("multibalance", {"mix": 0.5, "every": 3}),
    ("moco", {"every": 2}),
    *TORCHJD_METHODS,
    ("docs.examples.own_method:UnitNorm", {}),  # shows the last coefficients as task weights
]
BROKEN = (2, 4)
"""Steps with a gradient that is not finite."""
ROWS, WIDTH = 4, 5


def make_layer(method: Method, reduction: Reduction, names: Sequence[str] = ("a", "b", "c")) -> BalancingLayer:
    return BalancingLayer(create_balancer(method[0], len(names), task_names=names, **method[1]), reduction=reduction)


def take_step(layer: BalancingLayer, index: int, rank: int = 0) -> Tensor:
    """Gradients and losses are functions of task, step and rank. Learned loss weights descend.

    Returns:
        (ROWS, WIDTH) the balanced gradient.
    """
    shared = torch.zeros(ROWS, WIDTH, dtype=torch.float64, requires_grad=True)
    losses = []
    for name, view in zip(layer.balancer.task_names, layer(shared), strict=True):
        generator = torch.Generator().manual_seed(zlib.crc32(f"{name} {index} {rank}".encode()))
        gradient = torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64)
        loss = torch.rand((), generator=generator, dtype=torch.float64) + 0.1
        if index in BROKEN and name == "b" and rank == 0:
            gradient[1, 2] = float("nan")
        losses.append(loss + (view * gradient).sum())
    layer.weigh_losses(torch.stack(losses)).sum().backward()
    for parameter in layer.parameters():
        assert parameter.grad is not None
        if index not in BROKEN:
            parameter.data -= 0.1 * parameter.grad
        parameter.grad = None
    assert shared.grad is not None
    return shared.grad


def take_steps(layer: BalancingLayer, first: int, last: int, rank: int = 0) -> list[Tensor]:
    return [take_step(layer, index, rank) for index in range(first, last)]


def stored(layer: BalancingLayer) -> dict[str, Any]:
    """The layer's state, saved and loaded."""
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    state: dict[str, Any] = torch.load(file)
    return state


def assert_same(actual: Any, expected: Any) -> None:
    """Bit for bit."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)
