"""Steps of the layer that a GPU replays from CUDA graphs: the same as without."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from dlrm_mtl.balancing import BalancingLayer, MultiBalance, available_balancers, create_balancer
from dlrm_mtl.balancing.kernels.cuda_graphs import WARM_UP
from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.metrics.sums import MetricSums
from dlrm_mtl.models.ranker import Predictions
from dlrm_mtl.training.optimization.step_guard import StepGuard

pytestmark = pytest.mark.gpu

PORTABLE = [name for name in available_balancers() if create_balancer(name, 3).portable]
STEPS = WARM_UP + 6


def gradients_of(step: int, num_tasks: int = 3) -> list[Tensor]:
    generator = torch.Generator("cuda").manual_seed(step)
    return [torch.randn(50, 7, generator=generator, device="cuda") for _ in range(num_tasks)]


def run(layer: BalancingLayer, before: Callable[[BalancingLayer, int], None]) -> list[list[Tensor]]:
    """Balanced gradient, record and state after each step; the host must not wait in the last ones."""
    found = []
    for step in range(STEPS):
        before(layer, step)
        gradients = gradients_of(step, layer.num_tasks)
        if step == 5:
            gradients[1][2, 3] = torch.nan
        losses = torch.rand(layer.num_tasks, device="cuda", generator=torch.Generator("cuda").manual_seed(step))
        shared = torch.zeros_like(gradients[0], requires_grad=True)
        torch.cuda.set_sync_debug_mode("error" if step > WARM_UP + 1 else "default")
        try:
            layer.weigh_losses(losses)
            torch.autograd.backward(list(layer(shared)), gradients)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert shared.grad is not None
        assert layer.record is not None
        state = layer.state_dict().values()
        found.append([x.clone() for x in (shared.grad, *vars(layer.record).values(), *state, layer.nonfinite_tasks)])
    return found


def nothing(layer: BalancingLayer, step: int) -> None: ...


def assert_same_without_graphs(
    create: Callable[[], BalancingLayer], before: Callable[[BalancingLayer, int], None] = nothing
) -> BalancingLayer:
    captured, plain = create().cuda(), create().cuda()
    plain.balancer.portable = False  # type: ignore[misc]
    for step, (mine, expected) in enumerate(zip(run(captured, before), run(plain, before), strict=True)):
        for value, other in zip(mine, expected, strict=True):
            torch.testing.assert_close(value, other, rtol=0, atol=0, equal_nan=True, msg=lambda m, s=step: f"{s}: {m}")  # type: ignore[misc]
    assert any(not isinstance(graph, int) for graph in captured._captured._graphs.values())
    assert not plain._captured._graphs
    return captured


@pytest.mark.parametrize("reduction", ["exact", "delayed"])
@pytest.mark.parametrize("name", PORTABLE)
def test_the_same_steps(name: str, reduction: Any) -> None:
    """One of them not finite."""
    assert_same_without_graphs(lambda: BalancingLayer(create_balancer(name, 3), reduction=reduction))


@pytest.mark.parametrize("name", ["mean", "multibalance"])
def test_observed_steps(name: str) -> None:
    def observe(layer: BalancingLayer, step: int) -> None:
        if step % 2:
            layer.observe()

    assert_same_without_graphs(lambda: BalancingLayer(create_balancer(name, 3)), observe)


def test_state_that_is_loaded_and_options_that_change() -> None:
    other = BalancingLayer(MultiBalance(3)).cuda()
    run(other, nothing)
    state = {name: value.clone() for name, value in other.state_dict().items()}

    def change(layer: BalancingLayer, step: int) -> None:
        if step == WARM_UP + 2:
            layer.load_state_dict(state)
        if step == WARM_UP + 3:
            assert isinstance(layer.balancer, MultiBalance)
            layer.balancer.beta = 0.25

    assert_same_without_graphs(lambda: BalancingLayer(MultiBalance(3)), change)


def test_a_schedule() -> None:
    def schedule(step: Tensor) -> Tensor:
        return 1 / (1 + step)

    assert_same_without_graphs(lambda: BalancingLayer(MultiBalance(3, schedule, max_rescale=2.0)))


def test_copies_begin_anew() -> None:
    layer = assert_same_without_graphs(lambda: BalancingLayer(MultiBalance(3)))
    twin = copy.deepcopy(layer)
    assert not twin._captured._graphs
    for mine, expected in zip(run(twin, nothing), run(layer, nothing), strict=True):
        for value, other in zip(mine, expected, strict=True):
            torch.testing.assert_close(value, other, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", ["mean", "multibalance"])
def test_few_launches(name: str) -> None:
    layer = BalancingLayer(create_balancer(name, 3)).cuda()
    run(layer, nothing)
    gradients = gradients_of(0)
    shared = torch.zeros_like(gradients[0], requires_grad=True)
    layer.weigh_losses(torch.rand(3, device="cuda"))
    views = list(layer(shared))
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        torch.autograd.backward(views, gradients)
        torch.cuda.synchronize()
    launches = [event.name for event in profiler.events() if "Launch" in event.name]
    assert len(launches) <= 8, launches


def test_a_method_that_may_not_be_captured() -> None:
    class Unit(Balancer):
        def coefficients(self, statistic: Tensor, losses: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
            return statistic.diagonal().rsqrt(), {}

        def task_weights(self) -> Tensor:
            return torch.ones(self.num_tasks, dtype=torch.float64, device=self.step.device)

    layer = BalancingLayer(Unit(3)).cuda()
    run(layer, nothing)
    assert not layer._captured._graphs


def test_metrics_are_those_of_a_cpu() -> None:
    """Of skipped steps too, and of batches of two sizes."""
    found = {}
    for device in ("cuda", "cpu"):
        generator = torch.Generator().manual_seed(0)
        sums = MetricSums(["binary"] * 2, torch.device(device))
        for step in range(STEPS):
            size = 40 if step % 4 else 24
            logits, labels = torch.randn(size, 2, generator=generator), torch.rand(size, 2, generator=generator).round()
            weights = torch.rand(size, 2, generator=generator).round()
            batch = [
                values.to(device) for values in (logits, labels, weights, torch.arange(size), torch.empty(size, 0))
            ]
            sums.update(Predictions(*batch), torch.tensor(step == 6, device=device))
        found[device] = sums
    torch.testing.assert_close(found["cuda"].sums.cpu(), found["cpu"].sums, rtol=1e-6, atol=0)
    assert torch.equal(found["cuda"].histogram.cpu(), found["cpu"].histogram)


def test_the_guard_counts_as_on_a_cpu() -> None:
    counts = []
    for device in ("cuda", "cpu"):
        parameter = torch.zeros(5, device=device)
        guard = StepGuard([parameter], torch.device(device))
        skipped = []
        for step in range(STEPS + 2):
            parameter.grad = torch.full((5,), torch.nan if step in (1, 6, 7) else 1.0, device=device)
            guard.check()
            skipped.append(bool(guard.skipped))
        counts.append((skipped, guard.take_counts(), int(guard.run)))
    assert counts[0] == counts[1]
    assert counts[1][1].count == 3
