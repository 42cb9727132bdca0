"""Balancing at a cut of several tensors, against M backward passes, one of each loss."""

import gc
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dlrm_mtl.balancing import BalancingLayer, ParameterLevelLayer, available_balancers, create_balancer
from dlrm_mtl.distributed.processes import Ranks
from tests.balancing.backward import record_of
from tests.ranks import RankPool

BATCH, INPUTS, WIDTH, EXPERTS, TASKS = 12, 5, 4, 3, 3


class Experts(nn.Module):
    """A small MMoE with a private tensor for each task, and one that the first two tasks share."""

    def __init__(self, layer: BalancingLayer | ParameterLevelLayer | None, fused: bool, tasks: int = TASKS) -> None:
        super().__init__()
        self.layer, self.fused, self.tasks = layer, fused, tasks
        self.bottom = nn.Linear(INPUTS, INPUTS)
        self.experts = nn.ModuleList(nn.Linear(INPUTS, WIDTH) for _ in range(EXPERTS))
        self.own = nn.ModuleList(nn.Linear(INPUTS, WIDTH) for _ in range(tasks))
        self.pair = nn.Linear(INPUTS, WIDTH)
        self.gates = nn.ModuleList(nn.Linear(INPUTS, EXPERTS) for _ in range(tasks))
        self.towers = nn.ModuleList(nn.Linear(2 * WIDTH, 1) for _ in range(tasks))

    def forward(self, features: Tensor) -> Tensor:
        x = self.bottom(features).tanh()
        experts = torch.stack([expert(x).tanh() for expert in self.experts], dim=1)
        own, pair = [each(x) for each in self.own], self.pair(x)
        reads: list[Any] = [(x, own[m], pair) if m < 2 else (x, own[m]) for m in range(self.tasks)]
        if not self.fused:
            reads = [(*tensors, experts) for tensors in reads]
        mixture: Callable[[Tensor], Tensor] | None = None
        views: Sequence[Sequence[Tensor]] = reads
        if self.layer is not None:
            if self.fused:
                views, mixture = self.layer.with_experts(reads, experts)  # type: ignore[assignment]
            else:
                views = self.layer(reads)
        gates = torch.stack([gate(view[0]).softmax(-1) for gate, view in zip(self.gates, views, strict=True)], dim=1)
        if mixture is not None:
            mixed = mixture(gates)
        else:
            of_task = [experts if self.fused else view[-1] for view in views]
            mixed = torch.stack([torch.einsum("bk,bkd->bd", gates[:, m], of_task[m]) for m in range(self.tasks)], 1)
        losses = []
        for m in range(self.tasks):
            private = views[m][1] + (views[m][2] if m < 2 else 0)
            losses.append(self.towers[m](torch.cat([mixed[:, m], private], dim=1)).square().mean() * 3.0**m)
        return torch.stack(losses)


SHARED = ("bottom", "experts", "own", "pair")
"""Below the cut; gates and towers are above."""


def build(method: str, fused: bool, dtype: torch.dtype = torch.float64, **options: Any) -> Experts:
    torch.manual_seed(3)
    return Experts(BalancingLayer(create_balancer(method, TASKS, **options)), fused).to(dtype)


def features_of(seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(BATCH, INPUTS, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def separate(model: Experts, features: Tensor) -> list[dict[str, Tensor]]:
    """Gradients of every parameter by each loss, from a backward pass of its own."""
    plain = Experts(None, model.fused).to(features.dtype)
    plain.load_state_dict({key: value for key, value in model.state_dict().items() if not key.startswith("layer.")})
    gradients = []
    for loss in plain(features):
        plain.zero_grad()
        loss.backward(retain_graph=True)
        gradients.append(
            {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in plain.named_parameters()}
        )
    return gradients


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("method", [name for name in available_balancers() if name != "graddrop"])
def test_every_parameter_gets_the_weighted_sum(method: str, fused: bool) -> None:
    model = build(method, fused)
    assert isinstance(model.layer, BalancingLayer)
    for seed in range(3):
        features = features_of(seed)
        each = separate(model, features)
        model.zero_grad()
        losses = model(features)
        factors = torch.autograd.grad(model.layer.weigh_losses(losses).sum(), losses, retain_graph=True)[0]
        model.layer.weigh_losses(model(features)).sum().backward()
        record = record_of(model.layer)
        weights = record.coefficients * factors
        for name, parameter in model.named_parameters():
            if not name.startswith((*SHARED, "gates", "towers")):
                continue
            of_loss = weights if name.startswith(SHARED) else factors
            expected = sum(float(of_loss[m]) * each[m][name] for m in range(TASKS))
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("method", [*available_balancers(), "torchjd:UPGrad"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_fused_mixture_gives_what_the_plain_one_does(method: str, dtype: torch.dtype) -> None:
    options = {"seed": 7} if method == "graddrop" else {}
    plain, fused = (build(method, kind, dtype, **options) for kind in (False, True))
    for seed in range(3):
        gradients = []
        for model in (plain, fused):
            assert isinstance(model.layer, BalancingLayer)
            model.zero_grad()
            model.layer.observe()
            model.layer.weigh_losses(model(features_of(seed, dtype))).sum().backward()
            gradients.append([parameter.grad for parameter in model.parameters()])
        tolerance = 1e-9 if dtype == torch.float64 else 2e-4
        torch.testing.assert_close(gradients[0], gradients[1], rtol=tolerance, atol=tolerance * 1e-2)
        assert isinstance(plain.layer, BalancingLayer)
        assert isinstance(fused.layer, BalancingLayer)
        torch.testing.assert_close(
            record_of(plain.layer).gramian, record_of(fused.layer).gramian, rtol=1e-5, atol=1e-12
        )


@pytest.mark.parametrize("fused", [False, True])
def test_the_gramian_is_the_sum_over_tensors(fused: bool) -> None:
    model = build("multibalance", fused)
    cut: list[Any] = []
    assert isinstance(model.layer, BalancingLayer)
    balance = model.layer.balance
    model.layer.balance = lambda gradients: (cut.extend(gradients), balance(gradients))[1]  # type: ignore
    model(features_of(0)).sum().backward()
    expected = torch.zeros(TASKS, TASKS, dtype=torch.float64)
    for part in cut:
        of_tasks = part.per_task() if hasattr(part, "per_task") else part
        for i, left in enumerate(of_tasks):
            for j, right in enumerate(of_tasks):
                if left is not None and right is not None:
                    expected[i, j] += (left * right).sum()
    torch.testing.assert_close(record_of(model.layer).gramian, expected)
    assert (expected != 0).all()


def test_mixtures_of_one_task_add_up() -> None:
    """A loss that reads several towers has a mixture for each."""
    experts = torch.randn(6, EXPERTS, WIDTH, dtype=torch.float64, requires_grad=True)
    gates = torch.rand(6, 4, EXPERTS, dtype=torch.float64, requires_grad=True)
    owners, weights = (0, 1, 1, 0), torch.rand(4, dtype=torch.float64)
    layer = BalancingLayer(create_balancer("static", 2, weights=[0.3, 0.7]))
    (_, mixture) = layer.with_experts([(), ()], experts)
    first = mixture(gates[:, :3], tasks=owners[:3])
    second = mixture(gates[:, 3:], tasks=owners[3:])
    (torch.cat([first, second], dim=1).square().sum(dim=(0, 2)) * weights).sum().backward()
    balanced = experts.grad
    assert layer.balancer.num_tasks == 2
    plain = experts.detach().clone().requires_grad_()
    of_read = torch.tensor([(0.3, 0.7)[owner] for owner in owners], dtype=torch.float64)
    (torch.bmm(gates.detach(), plain).square().sum(dim=(0, 2)) * weights * of_read).sum().backward()
    torch.testing.assert_close(balanced, plain.grad)


def test_one_constant_gate_is_the_shared_bottom() -> None:
    x = torch.randn(8, WIDTH, dtype=torch.float64, requires_grad=True)
    towers = torch.randn(TASKS, WIDTH, dtype=torch.float64)
    single, several = (BalancingLayer(create_balancer("multibalance", TASKS)) for _ in range(2))
    views = single(x)
    torch.stack([(views[m] @ towers[m]).square().mean() for m in range(TASKS)]).sum().backward()
    expected, x.grad = x.grad, None
    _, mixture = several.with_experts([()] * TASKS, x[:, None])
    mixed = mixture(torch.ones(8, TASKS, 1, dtype=torch.float64))
    torch.stack([(mixed[:, m] @ towers[m]).square().mean() for m in range(TASKS)]).sum().backward()
    torch.testing.assert_close(x.grad, expected)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("reduction", ["exact", "delayed", "local"])
def test_a_task_absent_from_the_batch(reduction: str, fused: bool) -> None:
    model = build("multibalance", fused)
    layer = model.layer = BalancingLayer(create_balancer("multibalance", TASKS), reduction=reduction)  # type: ignore[arg-type]
    for seed in range(3):
        losses = model(features_of(seed))
        present = torch.stack([losses[0], losses[1], losses[2] * 0])
        layer.weigh_losses(present).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())
    assert layer.balancer.step == (2 if reduction == "delayed" else 3)


@pytest.mark.parametrize("fused", [False, True])
def test_a_gradient_that_is_not_finite_spoils_every_tensor_of_the_cut(fused: bool) -> None:
    model = build("multibalance", fused)
    features = features_of(0)
    losses = model(features)
    (losses * torch.tensor([1.0, torch.nan, 1.0])).sum().backward()
    assert isinstance(model.layer, BalancingLayer)
    assert model.layer.nonfinite_tasks.tolist() == [0, 1, 0]
    assert model.layer.balancer.step == 0
    for name, parameter in model.named_parameters():
        if name.startswith(SHARED):
            assert parameter.grad is not None
            assert parameter.grad.isnan().all()


@pytest.mark.parametrize("fused", [False, True])
def test_parameter_level_scales_the_whole_cut(fused: bool) -> None:
    torch.manual_seed(3)
    layer = ParameterLevelLayer(create_balancer("multibalance", TASKS))
    model = Experts(layer, fused).double()
    layer.bind(list(model.bottom.parameters()))
    features = features_of(0)
    each = separate(model, features)
    layer.weigh_losses(model(features)).sum().backward()
    for name, parameter in model.named_parameters():
        if name.startswith(SHARED):
            expected = sum(float(record_of(layer).coefficients[m]) * each[m][name] for m in range(TASKS))
            torch.testing.assert_close(parameter.grad, expected, rtol=1e-9, atol=1e-14)


def test_evaluation_is_the_identity() -> None:
    model = build("multibalance", True).eval()
    plain = build("multibalance", False).eval()
    torch.testing.assert_close(model(features_of(0)), plain(features_of(0)))


def test_bfloat16_under_autocast() -> None:
    plain, fused = (build("multibalance", kind, torch.float32) for kind in (False, True))
    for model in (plain, fused):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = model(features_of(0, torch.float32))
        losses.float().sum().backward()
    for left, right in zip(plain.parameters(), fused.parameters(), strict=True):
        assert left.grad is not None
        assert right.grad is not None
        assert (left.grad - right.grad).norm() <= 0.05 * left.grad.norm() + 1e-6


def test_a_second_backward_is_refused() -> None:
    model = build("multibalance", True)
    losses = model(features_of(0))
    losses[0].backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="second backward"):
        losses[1].backward()


def test_a_step_frees_its_tensors() -> None:
    """Without the collector of circles, which does not see through the graph."""
    layer = BalancingLayer(create_balancer("multibalance", TASKS))
    experts = torch.randn(4, EXPERTS, WIDTH, requires_grad=True) * 1
    alive = weakref.ref(experts)
    gc.disable()
    try:
        _, mixture = layer.with_experts([()] * TASKS, experts)
        mixture(torch.rand(4, TASKS, EXPERTS, requires_grad=True).softmax(-1)).square().sum().backward()
        del mixture, experts, _
        assert alive() is None
    finally:
        gc.enable()


X, E = torch.zeros(4, 2, requires_grad=True), torch.zeros(4, EXPERTS, WIDTH)


@pytest.mark.parametrize(
    ("reads", "experts", "error"),
    [
        ([(X,), (X,)], None, ValueError),
        ([(X,), (X,), X], None, TypeError),
        ([(X,), (X,), ("x",)], None, TypeError),
        ([(X,), (X,), (X.view(4, 2),)], None, ValueError),
        (X, X, ValueError),
        (X, E.int(), TypeError),
    ],
)
def test_what_no_cut_is(reads: Any, experts: Any, error: type[Exception]) -> None:
    layer = BalancingLayer(create_balancer("mean", TASKS))
    with pytest.raises(error):
        layer(reads) if experts is None else layer.with_experts(reads, experts)


@pytest.mark.parametrize(("shape", "tasks"), [((4, 2, EXPERTS), None), ((4, TASKS, 2), None), ((4, 1, EXPERTS), [3])])
def test_gates_that_do_not_fit(shape: tuple[int, ...], tasks: list[int] | None) -> None:
    _, mixture = BalancingLayer(create_balancer("mean", TASKS)).with_experts(X, E)
    with pytest.raises(ValueError, match="expected"):
        mixture(torch.ones(shape), tasks=tasks)


def train_on_rank(ranks: Ranks | None, reduction: str, fused: bool) -> list[Any]:
    """Parameters after some steps of SGD, and the last coefficients: this rank's rows of each global batch."""
    rank, world_size = (0, 1) if ranks is None else (ranks.rank, ranks.world_size)
    torch.manual_seed(3)
    layer = BalancingLayer(create_balancer("multibalance", TASKS), reduction=reduction)  # type: ignore[arg-type]
    model = Experts(layer, fused).double()
    trained: nn.Module = model if world_size == 1 else DistributedDataParallel(model, broadcast_buffers=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    mine = slice(rank * BATCH // world_size, (rank + 1) * BATCH // world_size)
    for seed in range(4):
        optimizer.zero_grad()
        layer.weigh_losses(trained(features_of(seed)[mine])).sum().backward()
        optimizer.step()
    return [parameter.detach().numpy() for parameter in model.parameters()] + [record_of(layer).coefficients.numpy()]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("reduction", ["exact", "delayed"])
def test_ranks_give_what_one_process_does(rank_pool: RankPool, reduction: str, fused: bool) -> None:
    alone = train_on_rank(None, reduction, fused)
    for world_size in (2, 3):
        for trained in rank_pool.run(world_size, train_on_rank, reduction, fused):
            for value, expected in zip(trained, alone, strict=True):
                np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-12)
