"""Architectures: the cut handed through the balancing layer, and classes that cannot be built."""

import re
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from dlrm_mtl.balancing import BalancingLayer, create_balancer
from dlrm_mtl.config import SHARING, ModelConfig
from dlrm_mtl.models.ranker import build_dense_modules
from dlrm_mtl.models.sharing.architecture import SharingArchitecture, build_sharing
from tests.models.batches import SCHEMA

TASKS = ("task_a", "task_b", "task_c")


class EveryKindOfReader(SharingArchitecture):
    """A cut of which all tasks read one tensor, two read another, and one reads a third, of more dimensions."""

    def __init__(self, config: ModelConfig, in_features: int, tasks: Sequence[str]) -> None:
        super().__init__(config, in_features, tasks)
        self.of_all, self.of_two = nn.Linear(in_features, 4), nn.Linear(in_features, 4)
        self.of_one = nn.Linear(in_features, 8)
        self.out_features = 4

    def forward(self, representation: Tensor) -> tuple[Tensor, ...]:
        one = self.of_one(representation).view(-1, 2, 4)
        return self.of_all(representation), self.of_two(representation), one

    def head_input(self, task: int, views: Sequence[Tensor]) -> Tensor:
        everybodys, of_two, of_one = views
        return everybodys + (of_one.sum(dim=1) if task == 2 else (task + 1) * of_two)


class WithoutWidth(SharingArchitecture):
    pass


def losses_of(inputs: Sequence[Tensor]) -> list[Tensor]:
    return [((task + 1) * rows - task).square().mean() for task, rows in enumerate(inputs)]


@pytest.mark.parametrize("method", ["mean", "multibalance", "imtl_g", "moco", "graddrop"])
def test_all_that_is_below_the_cut_receives_the_weighted_sum(method: str) -> None:
    torch.manual_seed(0)
    sharing = EveryKindOfReader(ModelConfig(), 6, TASKS).double()
    layer = BalancingLayer(create_balancer(method, 3))
    x = torch.randn(32, 6, dtype=torch.float64, requires_grad=True)
    leaves = [x, *sharing.parameters()]
    sum(losses_of(sharing.head_inputs(x, layer))).backward()  # type: ignore[union-attr]
    plain = losses_of(sharing.head_inputs(x, lambda cut: [cut] * 3))
    by_task = [torch.autograd.grad(loss, leaves, retain_graph=True, materialize_grads=True) for loss in plain]
    assert layer.record is not None
    weights = layer.record.coefficients
    if method != "graddrop":  # which has a weight for each element
        for leaf, *gradients in zip(leaves, *by_task, strict=True):
            expected = sum(weight * gradient for weight, gradient in zip(weights, gradients, strict=True))
            torch.testing.assert_close(leaf.grad, expected, rtol=1e-10, atol=1e-14)
    cut = [tensor.detach().requires_grad_() for tensor in sharing(x)]
    losses = losses_of([sharing.head_input(task, cut) for task in range(3)])
    rows = [torch.autograd.grad(loss, cut, materialize_grads=True) for loss in losses]
    flat = torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])
    if method in ("multibalance", "imtl_g"):
        torch.testing.assert_close(layer.record.gramian, flat @ flat.T)


@pytest.mark.parametrize("name", SHARING)
def test_architectures_of_the_project_train_every_parameter(name: str) -> None:
    sharing = build_sharing(ModelConfig(sharing=name), 6, TASKS)
    x = torch.randn(5, 6, requires_grad=True)
    inputs = sharing.head_inputs(x, lambda cut: [cut] * 3)
    assert [rows.shape for rows in inputs] == [(5, sharing.out_features)] * 3
    sum(losses_of(inputs)).backward()  # type: ignore[union-attr]
    assert all(leaf.grad is not None and leaf.grad.abs().max() > 0 for leaf in [x, *sharing.parameters()])


def test_bottom_hands_the_representation_itself_to_the_layer() -> None:
    x, seen = torch.randn(2, 3), []

    def balance(cut: Tensor) -> list[Tensor]:
        seen.append(cut)
        return [cut] * 3

    inputs = build_sharing(ModelConfig(), 3, TASKS).head_inputs(x, balance)
    assert all(rows is x for rows in (*seen, *inputs))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ModelConfig(sharing=f"{__name__}:WithoutWidth"), "sets out_features"),
        (ModelConfig(sharing="torch.nn:Linear"), "SharingArchitecture"),
        (ModelConfig(sharing="tests.models.nowhere:Mine"), "no module 'tests.models.nowhere'"),
        (ModelConfig(interaction="torch.nn:Linear"), "Interaction"),
        (ModelConfig(interaction="torch.nn:Linnear"), "'Linnear'"),
    ],
)
def test_a_class_that_cannot_be_built(config: ModelConfig, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        build_dense_modules(SCHEMA, config)
