"""Micro-batches of one optimizer step: one step of the method, over the rows of all."""

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dlrm_mtl.balancing import Balancer, BalancingLayer, MultiBalance, available_balancers, create_balancer
from tests.balancing.backward import state_of
from tests.balancing.reference import Algorithm3
from tests.balancing.small_model import SmallModel, batch, task_losses

pytestmark = pytest.mark.usefixtures("both_ways")

TASKS = 3
ROWS = 12
STEPS = 5
METHODS = [name for name in available_balancers() if create_balancer(name, TASKS).depends_on_batch]
CASES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in METHODS),
    ("mgda", {"normalization": "loss"}),
    ("db_mtl", {"log_losses": True}),
    ("db_mtl", {"average": 0.5}),
    ("imtl_l+imtl_g", {}),
    ("own", {}),
]


class InverseLosses(Balancer):
    measures = "nothing"
    needs_losses = True

    def coefficients(self, statistic: Tensor, losses: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        assert losses is not None
        return 1 / losses, {}


def create(name: str, options: dict[str, Any]) -> BalancingLayer:
    balancer = InverseLosses(TASKS) if name == "own" else create_balancer(name, TASKS, **options)
    return BalancingLayer(balancer, reduction="delayed").double()


def train(layer: BalancingLayer, micro_batches: int, first: int = 0, steps: int = STEPS) -> list[dict[str, Tensor]]:
    """Gradients of each SGD step, from the same batches in several micro-batches."""
    model = SmallModel(TASKS, layer)
    optimizer = torch.optim.SGD([*model.bottom.parameters(), *model.heads.parameters()], lr=0.1)
    actual = []
    for step in range(first, first + steps):
        features, labels = batch(step, ROWS, TASKS)
        pieces = list(zip(features.chunk(micro_batches), labels.chunk(micro_batches), strict=True))
        optimizer.zero_grad()
        for number, (rows, answers) in enumerate(pieces, 1):
            with layer.accumulating() if number < len(pieces) else nullcontext():
                losses = torch.stack(task_losses(model(rows), answers))
                (layer.weigh_losses(losses).sum() / micro_batches).backward()
        optimizer.step()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        actual.append({name: gradient.clone() for name, gradient in gradients.items()})
    return actual


@pytest.mark.parametrize("micro_batches", [2, 3])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_same_as_one_batch(name: str, options: dict[str, Any], micro_batches: int) -> None:
    whole, pieces = create(name, options), create(name, options)
    expected, actual = train(whole, 1), train(pieces, micro_batches)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(state_of(pieces), state_of(whole), rtol=1e-9, atol=1e-12)
    assert pieces.balancer.step.item() == STEPS - 1  # the last one's is under way


def test_against_the_formulas() -> None:
    """Coefficients of a step come from Algorithm 3 on all rows of the step before."""
    layer = BalancingLayer(MultiBalance(TASKS, beta=0.5, gamma=0.3), reduction="delayed")
    reference = Algorithm3(np.full(TASKS, 1 / TASKS), beta=0.5, gamma=0.3)
    generator = np.random.default_rng(0)
    coefficients = np.full(TASKS, 1 / TASKS)
    for _ in range(6):
        micro_batches = generator.standard_normal((4, TASKS, 3, 5))
        for number, gradients in enumerate(micro_batches):
            with layer.accumulating() if number < 3 else nullcontext():
                combined = send(layer, list(torch.from_numpy(gradients)))
            np.testing.assert_allclose(combined, np.tensordot(coefficients, gradients, 1), rtol=1e-9, atol=1e-12)
        rows = micro_batches.swapaxes(0, 1).reshape(TASKS, -1)
        reference(rows)
        norms = np.linalg.norm(rows, axis=1)
        coefficients = reference.weights * np.array([float(u or 0) for u in reference.norms]) / norms


def send(layer: BalancingLayer, gradients: Sequence[Tensor]) -> np.ndarray[Any, Any]:
    shared = torch.zeros_like(gradients[0], requires_grad=True)
    torch.autograd.backward(list(layer(shared)), list(gradients))
    assert shared.grad is not None
    return shared.grad.numpy()


def test_micro_batches_may_differ_in_number() -> None:
    layer, whole = create("multibalance", {}), create("multibalance", {})
    for step, count in enumerate((1, 3, 2, 1, 4)):
        actual, expected = train(layer, count, step, 1), train(whole, 1, step, 1)
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)


def test_a_micro_batch_that_is_not_finite() -> None:
    """Its gradient is NaN, so the optimizer's step is skipped; the method's state stays as it was."""
    layer = create("multibalance", {})
    rows = torch.randn(TASKS, 4, 2, dtype=torch.float64)
    send(layer, list(rows))
    send(layer, list(rows))
    weights, step = layer.balancer.task_weights().clone(), layer.balancer.step.item()
    bad = rows.clone()
    bad[1, 0, 0] = torch.nan
    with layer.accumulating():
        assert np.isnan(send(layer, list(bad))).all()
    assert layer.balancer.step.item() == step + 1  # by the step before
    weights = layer.balancer.task_weights().clone()
    assert np.isfinite(send(layer, list(rows))).all()
    send(layer, list(rows))
    assert torch.equal(layer.balancer.task_weights(), weights)
    assert layer.balancer.nonfinite_steps.item() == 1


@pytest.mark.parametrize("reduction", ["exact", "local"])
def test_accumulation_needs_a_delayed_reduction(reduction: Any) -> None:
    layer = BalancingLayer(MultiBalance(2), reduction=reduction)
    with pytest.raises(ValueError, match="expected 'delayed'"), layer.accumulating():
        pass


@pytest.mark.parametrize("reduction", ["exact", "delayed", "local"])
@pytest.mark.parametrize("name", ["mean", "graddrop", "uncertainty"])
def test_methods_that_depend_on_nothing(name: str, reduction: Any) -> None:
    layer = BalancingLayer(create_balancer(name, TASKS), reduction=reduction)
    with layer.accumulating():
        send(layer, list(torch.ones(TASKS, 4, 2)))
    send(layer, list(torch.ones(TASKS, 4, 2)))
    assert layer.balancer.step.item() == 2
    layer.state_dict()


def test_state_between_micro_batches() -> None:
    """It would be the state of neither step."""
    layer = create("multibalance", {})
    send(layer, list(torch.ones(TASKS, 4, 2)))
    saved = state_of(layer)
    with layer.accumulating():
        send(layer, list(torch.ones(TASKS, 4, 2)))
    with pytest.raises(RuntimeError, match="between micro-batches"):
        layer.state_dict()
    twin = copy.deepcopy(layer)
    rows = list(torch.randn(TASKS, 4, 2))
    np.testing.assert_array_equal(send(layer, rows), send(twin, rows))
    torch.testing.assert_close(state_of(twin), state_of(layer), rtol=0, atol=0)
    with layer.accumulating():
        send(layer, rows)
    layer.load_state_dict(saved)
    torch.testing.assert_close(state_of(layer), saved, rtol=0, atol=0)
