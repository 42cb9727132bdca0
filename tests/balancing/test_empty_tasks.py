"""Tasks without a row in a batch, whose mean loss is NaN and whose gradient is zero."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dlrm_mtl.balancing import BalancingLayer, ParameterLevelLayer, available_balancers, create_balancer
from tests.balancing.backward import backward_with, state_of

pytestmark = pytest.mark.usefixtures("both_ways")

TASKS = 3
NAMES = (
    *available_balancers(),
    "imtl_l+imtl_g",
    "mgda:normalization=loss",
    "mgda:normalization=loss+",
    "db_mtl:log_losses",
    "db_mtl:log_losses,average",
)


def create(name: str) -> Any:
    method, _, option = name.partition(":")
    options: dict[str, Any] = {}
    if "normalization" in option:
        options["normalization"] = option.partition("=")[2]
    if "log_losses" in option:
        options["log_losses"] = True
    if "average" in option:
        options["average"] = 0.5
    return create_balancer(method, TASKS, **options)


class Model(nn.Module):
    """Bottom, layer and heads; masks select the rows of each task."""

    def __init__(self, layer: BalancingLayer | ParameterLevelLayer) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.bottom = nn.Linear(5, 4)
        self.layer = layer
        self.heads = nn.ModuleList(nn.Linear(4, 1) for _ in range(TASKS))
        if isinstance(layer, ParameterLevelLayer):
            layer.bind(list(self.bottom.parameters()))

    def losses(self, features: Tensor, masks: Tensor) -> list[Tensor]:
        views = self.layer(self.bottom(features))
        outputs = [head(view).squeeze(1) for head, view in zip(self.heads, views, strict=True)]
        return [(output[masks[:, m]] - m).square().mean() for m, output in enumerate(outputs)]


def steps(model: Model, empty: int | None, count: int = 4) -> None:
    """SGD. In step 2 one task has no row: its loss is NaN, or left out."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for step in range(count):
        generator = torch.Generator().manual_seed(step)
        features = torch.randn(8, 5, generator=generator)
        masks = torch.rand(8, TASKS, generator=generator) < 0.8
        if step == 2 and empty is not None:
            masks[:, empty] = False
        optimizer.zero_grad()
        losses = model.losses(features, masks)
        model.layer.weigh_losses(torch.stack(losses)).sum().backward()
        optimizer.step()


@pytest.mark.parametrize("empty", range(TASKS))
@pytest.mark.parametrize("name", NAMES)
def test_an_empty_task_does_not_change_the_other_tasks(name: str, empty: int) -> None:
    for model in (Model(BalancingLayer(create(name))), Model(BalancingLayer(create(name), reduction="delayed"))):
        steps(model, empty)
        assert all(parameter.isfinite().all() for parameter in model.parameters())
        assert all(value.isfinite().all() for value in state_of(model.layer).values())  # type: ignore[arg-type]
        assert model.layer.balancer.nonfinite_steps.item() == 0
        assert model.layer.nonfinite_tasks.tolist() == [0] * TASKS


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_task_is_treated_as_a_zero_gradient_and_a_zero_loss(name: str) -> None:
    """Also for its own state."""
    layer, twin = BalancingLayer(create(name)), BalancingLayer(create(name))
    for step in range(4):
        generator = torch.Generator().manual_seed(step)
        rows: list[Tensor | None] = list(torch.randn(TASKS, 6, 5, generator=generator))
        losses = torch.rand(TASKS, generator=generator) + 0.1
        if step == 2:
            rows[1] = None if name == "mean" else torch.zeros(6, 5)
            twin.weigh_losses(torch.where(torch.arange(TASKS) == 1, 0.0, losses))
            losses[1] = torch.nan
        else:
            twin.weigh_losses(losses)
        layer.weigh_losses(losses)
        torch.testing.assert_close(backward_with(layer, rows), backward_with(twin, rows), rtol=0, atol=0)
        torch.testing.assert_close(state_of(layer), state_of(twin), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["uncertainty", "imtl_l", "imtl_l+imtl_g"])
def test_a_learned_weight_is_not_trained_without_rows(name: str) -> None:
    layer = BalancingLayer(create(name))
    losses = torch.tensor([0.5, torch.nan, 2.0], requires_grad=True)
    minimized = layer.weigh_losses(losses)
    assert minimized.isfinite().all()
    minimized.sum().backward()
    weighting = layer.balancer.loss_weighting
    assert weighting is not None
    gradients = [scalar.grad for scalar in weighting.scalars.values()]
    assert [gradient is not None and gradient.isfinite().item() for gradient in gradients] == [True] * TASKS
    assert [gradient is None or gradient.item() == 0 for gradient in gradients] == [False, True, False]
    assert losses.grad is not None
    assert losses.grad[1] != 0  # what diverged would pass its NaN on


@pytest.mark.parametrize("name", NAMES)
def test_a_diverged_task_is_not_taken_for_an_empty_one(name: str) -> None:
    """Neither with a NaN loss and a gradient, nor with an infinite loss and none."""
    for loss, gradient in ((torch.nan, 1.0), (torch.nan, torch.nan), (torch.inf, 0.0)):
        layer = BalancingLayer(create(name))
        layer.weigh_losses(torch.tensor([1.0, loss, 1.0]))
        rows = [torch.ones(6, 5), torch.full((6, 5), gradient), torch.ones(6, 5)]
        combined = backward_with(layer, rows)
        assert combined.isnan().all()
        assert layer.nonfinite_tasks.tolist() == [0, 1, 0]


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_task_in_combine(name: str) -> None:
    rows = torch.randn(TASKS, 20, generator=torch.Generator().manual_seed(0))
    rows[1] = 0
    balancer = create(name)
    assert balancer.combine(rows, torch.tensor([0.5, torch.nan, 2.0])).isfinite().all()
    assert balancer.nonfinite_steps.item() == 0


@pytest.mark.parametrize("name", ["mean", "multibalance", "mgda:normalization=loss", "db_mtl:log_losses"])
def test_at_the_level_of_parameters(name: str) -> None:
    model = Model(ParameterLevelLayer(create(name)))
    steps(model, 1)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert model.layer.balancer.nonfinite_steps.item() == 0
