"""Gradients, losses and results that are not finite: NaN is passed on in every element, and the state is unchanged."""

from typing import Any

import pytest
import torch
from torch import Tensor

from dlrm_mtl.balancing import BalancingLayer, MultiBalance, available_balancers, create_balancer
from dlrm_mtl.balancing.kernels.weighted_sum import LARGEST, bounded_coefficients
from tests.balancing.backward import backward_with, record_of, state_of

pytestmark = pytest.mark.usefixtures("both_ways")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_gradient_is_passed_on_and_leaves_the_state_alone(bad: float) -> None:
    layer = BalancingLayer(MultiBalance(3))
    backward_with(layer, list(torch.randn(3, 4, 2)))
    before = state_of(layer)
    gradients = torch.randn(3, 4, 2)
    gradients[1, 2, 0] = bad
    combined = backward_with(layer, list(gradients))
    assert combined.isnan().all()
    assert layer.nonfinite_tasks.tolist() == [0, 1, 0]
    assert torch.equal(record_of(layer).coefficients, layer.balancer.initial_coefficients())
    after = state_of(layer)
    assert after.pop("balancer.nonfinite_steps").item() == before.pop("balancer.nonfinite_steps").item() + 1
    assert all(torch.equal(after[key], before[key]) for key in before)
    healthy = backward_with(layer, list(torch.randn(3, 4, 2)))
    assert healthy.isfinite().all()
    assert layer.balancer.step.item() == 2


def test_non_finite_gradient_of_the_first_step_leaves_no_trace() -> None:
    one, other = BalancingLayer(MultiBalance(2)), BalancingLayer(MultiBalance(2))
    backward_with(one, [torch.full((4, 2), float("nan")), torch.ones(4, 2)])
    gradients = list(torch.randn(2, 4, 2))
    torch.testing.assert_close(backward_with(one, gradients), backward_with(other, gradients), rtol=0, atol=0)


@pytest.mark.parametrize("observed", [False, True])
def test_non_finite_gradient_under_fixed_weights(observed: bool) -> None:
    layer = BalancingLayer(create_balancer("mean", 2))
    gradients = [torch.tensor([[1.0, float("nan")], [1.0, 2.0]]), torch.tensor([[2.0, 4.0], [1.0, 2.0]])]
    if observed:
        layer.observe()
    combined = backward_with(layer, gradients)
    assert combined.isnan().all()
    assert layer.balancer.nonfinite_steps.item() == int(observed)
    assert layer.nonfinite_tasks.tolist() == [int(observed), 0]  # without a Gramian nothing tells the tasks apart


@pytest.mark.parametrize("reduction", ["exact", "delayed", "local"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", available_balancers())
def test_non_finite_loss_with_finite_gradients(name: str, bad: float, reduction: Any) -> None:
    """As with a logit that overflows: the loss is infinite, its derivative is not."""
    layer, twin = (BalancingLayer(create_balancer(name, 3), reduction=reduction) for _ in range(2))
    losses = torch.ones(3)
    for step in range(5):
        rows = list(torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(step)))
        if step == 2:
            layer.weigh_losses(torch.tensor([1.0, 1.0, bad]))
            combined = backward_with(layer, rows)
            assert combined.isnan().all()
            assert layer.nonfinite_tasks.tolist() == [0, 0, 1]
            if not twin.balancer.depends_on_batch:  # it goes on drawing
                backward_with(twin, rows)
            continue
        layer.weigh_losses(losses)
        twin.weigh_losses(losses)
        combined, expected = backward_with(layer, rows), backward_with(twin, rows)
        assert combined.isfinite().all()
        torch.testing.assert_close(combined, expected, rtol=0, atol=0)
    measured = set(state_of(twin)) - {"balancer.step", "balancer.nonfinite_steps"}
    assert all(torch.equal(state_of(layer)[key], state_of(twin)[key]) for key in measured)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["mean", "multibalance", "graddrop", "moco"])
def test_narrow_gradients_whose_sum_overflows_are_finite(name: str, dtype: torch.dtype) -> None:
    """As with scaled losses; the sum of all elements overflows float16."""
    layer = BalancingLayer(create_balancer(name, 2))
    combined = backward_with(layer, [torch.full((64, 8), 4096.0, dtype=dtype)] * 2)
    assert combined.isfinite().all()
    broken = torch.full((64, 8), 4096.0, dtype=dtype)
    broken[3, 1] = torch.inf
    combined = backward_with(layer, [broken, torch.ones(64, 8, dtype=dtype)])
    assert combined.isnan().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_result_beyond_its_dtype_is_nan_everywhere(dtype: torch.dtype) -> None:
    """The bound by norms, which replaces a check of the result, agrees with that check."""
    balancer = MultiBalance(2)
    gradients = [torch.ones(3, 2, dtype=dtype), torch.full((3, 2), -2.0, dtype=dtype)]
    gradients[0][0, 0] = 4
    squares = torch.stack([gradient.double().square().sum() for gradient in gradients])
    limit = torch.finfo(dtype).max

    def combine(coefficients: Tensor, finite: bool, known: bool) -> Tensor | None:
        if not known:
            return balancer.balanced_gradients([gradients], coefficients, torch.tensor(finite))[0]
        bounded = bounded_coefficients(coefficients, torch.diag(squares), torch.tensor(finite), dtype)
        return balancer.balanced_gradients([gradients], bounded)[0]

    for known in (True, False) if dtype in LARGEST else (False,):
        for largest in (0.1, 0.9):
            combined = combine(torch.tensor([largest * limit, 0.5], dtype=torch.float64), True, known)
            assert combined is not None
            assert combined.isfinite().all() if largest < 0.25 else combined.isnan().all()
        combined = combine(torch.ones(2).double(), False, known)
        assert combined is not None
        assert combined.isnan().all()
