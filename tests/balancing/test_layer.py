"""The layer in one process: fixed weights against plain autograd, one backward pass, unusual gradients."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dlrm_mtl.balancing import Balancer, BalancingLayer, MultiBalance, available_balancers, create_balancer
from dlrm_mtl.balancing.kernels.gradients import CutGradients, tensors_of
from dlrm_mtl.balancing.methods.create import METHODS
from tests.balancing.backward import backward_with, record_of, state_of
from tests.balancing.small_model import FEATURES, SmallModel, batch, task_losses
from tests.messages import naming

ROWS = 16


def gradients_of(model: SmallModel, losses: Sequence[Tensor]) -> dict[str, Tensor | None]:
    """Gradients of every parameter after one backward over the sum of the losses."""
    model.zero_grad()
    torch.stack(list(losses)).sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def model_losses(model: SmallModel, step: int = 0) -> list[Tensor]:
    features, labels = batch(step, ROWS, len(model.heads))
    return task_losses(model(features), labels)


@pytest.mark.parametrize("num_tasks", [1, 2, 3])
@pytest.mark.parametrize(
    ("name", "options", "weight"),
    [
        ("mean", {}, lambda m, num_tasks: 1 / num_tasks),
        ("sum", {}, lambda m, num_tasks: 1.0),
        ("static", {"weights": [0.2, -1.5, 4.0]}, lambda m, num_tasks: [0.2, -1.5, 4.0][m]),
    ],
)
def test_fixed_weights_reproduce_autograd(
    num_tasks: int, name: str, options: dict[str, Any], weight: Callable[[int, int], float]
) -> None:
    options = {key: value[:num_tasks] for key, value in options.items()}
    model = SmallModel(num_tasks, BalancingLayer(create_balancer(name, num_tasks, **options)))
    plain = SmallModel(num_tasks, None)
    heads = gradients_of(plain, model_losses(plain))
    bottom = gradients_of(plain, [weight(m, num_tasks) * loss for m, loss in enumerate(model_losses(plain))])
    for parameter, actual in gradients_of(model, model_losses(model)).items():
        expected = heads[parameter] if parameter.startswith("heads") else bottom[parameter]
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-15)


def test_heads_keep_their_own_gradients_under_multibalance() -> None:
    model, plain = SmallModel(3, BalancingLayer(MultiBalance(3))), SmallModel(3, None)
    actual, expected = gradients_of(model, model_losses(model)), gradients_of(plain, model_losses(plain))
    for parameter in actual:
        if parameter.startswith("heads"):
            assert torch.equal(actual[parameter], expected[parameter])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", METHODS)
def test_combine_is_the_layers_backward(name: str) -> None:
    layer, twin = BalancingLayer(create_balancer(name, 3)), create_balancer(name, 3)
    # combine() takes gradients that are pooled already by methods that pool.
    batch_rows = 1 if twin.measures == "pooled" else 8
    for step in range(5):
        rows = torch.randn(3, batch_rows, 6, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        losses = rows[:, 0, 0].exp()
        combined = twin.combine(rows.flatten(1), losses)
        actual = backward_with(layer, list(rows), losses)
        torch.testing.assert_close(actual.flatten(), combined, rtol=1e-12, atol=1e-15)


def test_views_share_storage_and_values() -> None:
    layer = BalancingLayer(MultiBalance(3))
    shared = torch.randn(4, 2, requires_grad=True)
    views = layer(shared)
    assert len(views) == 3
    assert all(view.data_ptr() == shared.data_ptr() and view.shape == shared.shape for view in views)


def test_in_place_operation_on_a_view_is_refused() -> None:
    views = BalancingLayer(MultiBalance(2))(torch.randn(4, 2, requires_grad=True))
    with pytest.raises(RuntimeError, match="inplace"):
        views[0].relu_()


def test_incoming_gradients_are_not_changed() -> None:
    layer = BalancingLayer(MultiBalance(2))
    gradients = [torch.randn(4, 2), torch.randn(4, 2)]
    before = [gradient.clone() for gradient in gradients]
    backward_with(layer, gradients)
    assert all(torch.equal(a, b) for a, b in zip(gradients, before, strict=True))


def test_one_backward_is_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = BalancingLayer(MultiBalance(3))
    calls: list[int] = []
    balance = layer.balance

    def counting(cut: CutGradients) -> list[Tensor | None]:
        calls.append(len(list(tensors_of(cut))))
        return balance(cut)

    monkeypatch.setattr(layer, "balance", counting)
    model = SmallModel(3, layer)
    for step in range(4):
        gradients_of(model, model_losses(model, step))
    assert calls == [3, 3, 3, 3]
    assert layer.balancer.step.item() == 4


def test_repeated_backward_raises() -> None:
    model = SmallModel(2, BalancingLayer(MultiBalance(2)))
    loss = torch.stack(model_losses(model)).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="second backward"):
        loss.backward()


def test_separate_backward_per_loss_raises() -> None:
    model = SmallModel(2, BalancingLayer(MultiBalance(2)))
    first, second = model_losses(model)
    first.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="second backward"):
        second.backward()


def test_separate_backward_raises_without_retaining_the_graph() -> None:
    model = SmallModel(2, BalancingLayer(MultiBalance(2)))
    first, second = model_losses(model)
    first.backward()
    with pytest.raises(RuntimeError):
        second.backward()


def test_a_second_forward_is_a_new_step() -> None:
    model = SmallModel(2, BalancingLayer(MultiBalance(2)))
    gradients_of(model, model_losses(model))
    gradients_of(model, model_losses(model))
    assert model.layer is not None
    assert model.layer.balancer.step.item() == 2


@pytest.mark.parametrize("mode", ["evaluation", "no_grad", "inference_mode"])
def test_without_training_the_layer_is_the_identity(mode: str) -> None:
    layer = BalancingLayer(MultiBalance(3))
    backward_with(layer, [torch.randn(4, 2) for _ in range(3)])
    before = state_of(layer)
    shared = torch.randn(4, 2, requires_grad=True)
    if mode == "evaluation":
        layer.eval()
        views = layer(shared)
        torch.stack([view.sum() for view in views]).sum().backward()
        assert shared.grad is not None
        assert torch.equal(shared.grad, torch.full((4, 2), 3.0))
    else:
        with torch.no_grad() if mode == "no_grad" else torch.inference_mode():
            views = layer(shared)
    assert all(torch.equal(view, shared) for view in views)
    after = state_of(layer)
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_representation_without_gradient_trains_the_heads() -> None:
    layer = BalancingLayer(MultiBalance(2))
    head = nn.Linear(3, 1)
    torch.stack([head(view).sum() for view in layer(torch.randn(4, 3))]).sum().backward()
    assert head.weight.grad is not None
    assert layer.balancer.step.item() == 0


@pytest.mark.parametrize("absent", [0, 1, 2])
@pytest.mark.parametrize("name", available_balancers())
def test_absent_task_equals_a_zero_gradient(name: str, absent: int) -> None:
    with_none, with_zero = BalancingLayer(create_balancer(name, 3)), BalancingLayer(create_balancer(name, 3))
    for step in range(3):
        rows: list[Tensor | None] = list(torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(step)))
        zeroed = list(rows)
        if step != 1:
            rows[absent], zeroed[absent] = None, torch.zeros(4, 2)
        losses = torch.rand(3)
        actual, expected = backward_with(with_none, rows, losses), backward_with(with_zero, zeroed, losses)
        assert actual.isfinite().all()
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)
    one, other = state_of(with_none), state_of(with_zero)
    assert all(torch.equal(one[key], other[key]) and one[key].isfinite().all() for key in one)


def test_unused_head_of_a_model() -> None:
    layer = BalancingLayer(MultiBalance(3))
    model = SmallModel(3, layer, skipped=[1])
    features, labels = batch(0, ROWS, 2)
    gradients = gradients_of(model, task_losses(model(features), labels))
    assert gradients["heads.1.weight"] is None
    assert gradients["bottom.0.weight"] is not None
    assert record_of(layer).coefficients[1] == 0
    assert (record_of(layer).gramian[1] == 0).all()


class NoGradient(torch.autograd.Function):
    """A head without a gradient."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> None:
        return None


@pytest.mark.parametrize("name", available_balancers())
def test_step_without_any_gradient(name: str) -> None:
    layer = BalancingLayer(create_balancer(name, 2))
    shared = torch.randn(4, 2, requires_grad=True)
    losses = torch.stack([NoGradient.apply(view).sum() for view in layer(shared)])
    layer.weigh_losses(losses).sum().backward()
    assert shared.grad is None
    assert record_of(layer).coefficients.isfinite().all()


@pytest.mark.parametrize("name", available_balancers())
def test_all_zero_gradients(name: str) -> None:
    layer = BalancingLayer(create_balancer(name, 3))
    for _ in range(3):
        combined = backward_with(layer, [torch.zeros(4, 2)] * 3, torch.rand(3))
        assert torch.equal(combined, torch.zeros(4, 2))


def test_empty_batch() -> None:
    layer = BalancingLayer(MultiBalance(2))
    combined = backward_with(layer, [torch.zeros(0, 2), torch.zeros(0, 2)])
    assert combined.shape == (0, 2)
    assert layer.balancer.task_weights().isfinite().all()


def test_losses_of_other_tasks_are_refused() -> None:
    layer = BalancingLayer(MultiBalance(3))
    with pytest.raises(ValueError, match=naming("losses", "(2,)", "(3,)")):
        layer.weigh_losses(torch.ones(2))


def test_record_of_a_step() -> None:
    layer = BalancingLayer(MultiBalance(2, gamma=0.5, prior_in_direction=0.5))
    gradients = list(torch.randn(2, 4, 3, dtype=torch.float64))
    assert layer.record is None
    backward_with(layer, gradients)
    combined = backward_with(layer, gradients)
    rows = torch.stack(gradients).flatten(1)
    torch.testing.assert_close(record_of(layer).gramian, rows @ rows.T, rtol=1e-12, atol=0)
    torch.testing.assert_close(record_of(layer).coefficients, layer.balancer.task_weights() + 0.25)
    torch.testing.assert_close(combined.flatten(), record_of(layer).coefficients @ rows)
    assert torch.equal(record_of(layer).task_weights, layer.balancer.task_weights())


@pytest.mark.parametrize("name", available_balancers())
def test_record_is_not_changed_by_later_steps(name: str) -> None:
    layer = BalancingLayer(create_balancer(name, 2))
    backward_with(layer, list(torch.randn(2, 4, 3)), torch.rand(2))
    first = record_of(layer)
    before = [value.clone() for value in (first.gramian, first.coefficients, first.task_weights)]
    backward_with(layer, list(torch.randn(2, 4, 3)), torch.rand(2))
    assert layer.record is not first
    for value, expected in zip((first.gramian, first.coefficients, first.task_weights), before, strict=True):
        assert torch.equal(value, expected)


@pytest.mark.parametrize("reduction", ["exact", "delayed", "local"])
def test_observe_records_the_gramian_once_for_a_method_without(reduction: Any) -> None:
    layer = BalancingLayer(create_balancer("mean", 2), reduction=reduction)
    gradients = list(torch.randn(2, 4, 3, dtype=torch.float64))
    rows = torch.stack(gradients).flatten(1)
    recorded = []
    for observed in (False, True, False):
        if observed:
            layer.observe()
        combined = backward_with(layer, gradients)
        torch.testing.assert_close(combined.flatten(), rows.mean(dim=0))
        recorded.append(record_of(layer).gramian)
    assert (recorded[0] == 0).all()
    torch.testing.assert_close(recorded[1], rows @ rows.T, rtol=1e-12, atol=0)
    assert (recorded[2] == 0).all()
    assert layer.balancer.step.item() == 3


@pytest.mark.parametrize("inside", [False, True], ids=["layer outside", "layer inside"])
@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing(inside: bool, reentrant: bool) -> None:
    plain, model = (SmallModel(3, BalancingLayer(MultiBalance(3))) for _ in range(2))
    layer = model.layer
    assert layer is not None
    for step in range(3):
        features, labels = batch(step, ROWS, 3)
        expected = gradients_of(plain, task_losses(plain(features), labels))
        features.requires_grad_()
        if inside:
            logits = checkpoint(lambda rows: tuple(model(rows)), features, use_reentrant=reentrant)
        else:
            shared = checkpoint(model.bottom, features, use_reentrant=reentrant)
            logits = [head(view).squeeze(1) for head, view in zip(model.heads, layer(shared), strict=True)]
        actual = gradients_of(model, task_losses(logits, labels))
        for parameter in expected:
            torch.testing.assert_close(actual[parameter], expected[parameter], rtol=1e-12, atol=1e-15)
        assert layer.balancer.step.item() == step + 1


def test_non_contiguous_gradients() -> None:
    one, other = BalancingLayer(MultiBalance(2)), BalancingLayer(MultiBalance(2))
    gradients = list(torch.randn(2, 3, 4))
    strided = [gradient.T.contiguous().T for gradient in gradients]
    torch.testing.assert_close(backward_with(one, strided), backward_with(other, gradients), rtol=1e-6, atol=1e-7)
    expanded: Sequence[Tensor] = [torch.ones(()).expand(3, 4), torch.full((), 2.0).expand(3, 4)]
    assert backward_with(one, expanded) is not None


def test_gradients_of_the_feature_side() -> None:
    """Everything below the layer gets the balanced gradient, its inputs included."""
    layer = BalancingLayer(create_balancer("static", 2, weights=[2.0, 3.0]))
    features = torch.randn(4, FEATURES, requires_grad=True)
    first, second = layer(features * 2)
    (first.sum() + second.sum()).backward()
    assert features.grad is not None
    torch.testing.assert_close(features.grad, torch.full((4, FEATURES), 10.0))


def test_unknown_reduction() -> None:
    with pytest.raises(ValueError, match=naming("exact, delayed, local")):
        BalancingLayer(MultiBalance(2), reduction="eventual")  # type: ignore[arg-type]


@pytest.mark.parametrize("reduction", ["exact", "delayed"])
def test_an_own_method_logs_what_it_applies(reduction: Any) -> None:
    """Unless it defines task weights."""

    class UnitNorm(Balancer):
        def coefficients(self, statistic: Tensor, losses: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
            return statistic.diagonal().rsqrt() / self.num_tasks, {}

    layer = BalancingLayer(UnitNorm(3), reduction=reduction)
    uniform = torch.full((3,), 1 / 3, dtype=torch.float64)
    assert torch.equal(layer.balancer.task_weights(), uniform)
    for step in range(3):
        backward_with(layer, list(torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(step))))
        assert torch.equal(record_of(layer).task_weights, record_of(layer).coefficients)
        assert torch.equal(record_of(layer).coefficients, uniform) == (step == 0 and reduction == "delayed")
    backward_with(layer, [torch.full((4, 2), torch.nan)] * 3)
    before = layer.balancer.task_weights().clone()
    assert before.isfinite().all()
    backward_with(layer, [torch.ones(4, 2)] * 3)
    assert layer.balancer.nonfinite_steps == 1
    assert torch.equal(layer.balancer.task_weights(), before) == (reduction == "delayed")  # by the step before
    assert set(layer.balancer.state_dict()) == {"step", "nonfinite_steps"}
