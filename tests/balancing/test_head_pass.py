"""Heads whose weight gradients are computed while ranks wait for each other, against the same heads without."""

import gc
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchrec.modules.mlp import Perceptron

from dlrm_mtl.balancing import BalancingLayer, create_balancer
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.models.onednn import OneDnnMlp
from tests.ranks import RankPool

TASKS, ROWS, WIDTH, STEPS = 3, 10, 7, 4


class Logged(torch.autograd.Function):
    """Identity that writes down when its gradient comes."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, log: list[str]) -> Tensor:
        ctx.log = log
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        ctx.log.append("weight")
        return gradient, None


class LoggedHead(nn.Module):
    """A linear head; it remembers its outputs as long as someone else does."""

    def __init__(self, log: list[str]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, WIDTH))
        self.log = log
        self.outputs: list[weakref.ref[Tensor]] = []

    def forward(self, rows: Tensor) -> Tensor:
        output = nn.functional.linear(rows, Logged.apply(self.weight, self.log)).relu()
        self.outputs.append(weakref.ref(output))
        return output


def chains() -> list[nn.Module]:
    """Heads of different depths; two of them share their last layer."""
    last = nn.Linear(4, 1)
    return [
        nn.Sequential(nn.Sequential(nn.Linear(WIDTH, 5), nn.Tanh()), nn.Linear(5, 4), last),
        nn.Sequential(nn.Linear(WIDTH, 4), last),
        nn.Linear(WIDTH, 1),
    ]


def onednn() -> list[nn.Module]:
    return [OneDnnMlp(Perceptron(WIDTH, 6), Perceptron(6, 5), nn.Linear(5, 1)) for _ in range(TASKS)]


HEADS: dict[str, Callable[[], list[nn.Module]]] = {"chains": chains, "onednn": onednn}


class Model(nn.Module):
    def __init__(self, heads: Sequence[nn.Module], method: str, through: bool) -> None:
        super().__init__()
        self.bottom = nn.Linear(5, WIDTH)
        self.heads = nn.ModuleList(heads)
        self.layer = BalancingLayer(create_balancer(method, TASKS))
        self.through = through

    def forward(self, features: Tensor) -> list[Tensor]:
        shared = self.bottom(features)
        if self.through:
            return self.layer.through(shared, list(self.heads))
        return [head(view) for head, view in zip(self.heads, self.layer(shared), strict=True)]


def train(ranks: Ranks, heads: str, method: str, through: bool, skipped: int | None = None) -> list[Any]:
    """Weights after some steps of SGD on averaged gradients, and the names of what backward was made of."""
    torch.manual_seed(1)
    model = Model(HEADS[heads](), method, through)
    generator = torch.Generator().manual_seed(ranks.rank)
    nodes = []
    for _ in range(STEPS):
        outputs = model(torch.randn(ROWS, 5, generator=generator))
        nodes.append(type(outputs[0].grad_fn).__name__)
        losses = [(3.0**m * output).square().mean() for m, output in enumerate(outputs) if m != skipped]
        model.zero_grad()
        if skipped is None:
            model.layer.weigh_losses(torch.stack(losses))
        torch.stack(losses).sum().backward()
        for weight in model.parameters():
            if weight.grad is not None:
                dist.all_reduce(weight.grad)
                weight.data -= 0.01 * weight.grad / ranks.world_size
    missing = [name for name, weight in model.named_parameters() if weight.grad is None]
    return [nodes[0], missing, {name: weight.detach().numpy() for name, weight in model.named_parameters()}]


def both(ranks: Ranks, heads: str, method: str, skipped: int | None) -> list[list[Any]]:
    return [train(ranks, heads, method, through, skipped) for through in (True, False)]


@pytest.mark.parametrize(
    ("method", "skipped"),
    [("multibalance", None), ("multibalance", 1), ("mgda", None), ("mgda", 1), ("moco", None), ("moco", 1)],
)
@pytest.mark.parametrize("heads", HEADS)
def test_weights_are_the_same(rank_pool: RankPool, heads: str, method: str, skipped: int | None) -> None:
    for (node, missing, found), (plain_node, plain_missing, expected) in rank_pool.run(2, both, heads, method, skipped):
        assert node == "_BalanceHeadsBackward" != plain_node
        assert missing == plain_missing
        assert bool(missing) == (skipped is not None)
        for name, value in expected.items():
            torch.testing.assert_close(torch.from_numpy(found[name]), torch.from_numpy(value), rtol=1e-6, atol=1e-7)


def order_of_events(ranks: Ranks, hooked: bool) -> tuple[list[str], int, int]:
    """What happens in backward, how often a hook was called, and how many outputs of heads outlive it."""
    log: list[str] = []
    calls: list[Tensor] = []
    heads = [LoggedHead(log) for _ in range(TASKS)]
    if hooked:
        heads[0].weight.register_hook(calls.append)
    layer = BalancingLayer(create_balancer("multibalance", TASKS))
    original: Callable[..., Any] = dist.all_reduce

    def logged(*arguments: Any, **options: Any) -> Any:
        log.append("all_reduce")
        return original(*arguments, **options)

    shared = torch.ones(ROWS, WIDTH, requires_grad=True)
    outputs = layer.through(shared, heads)
    dist.all_reduce = logged
    gc.disable()
    try:
        loss = sum(output.square().mean() for output in outputs)
        del outputs
        loss.backward()  # type: ignore[union-attr]
        alive = sum(output() is not None for head in heads for output in head.outputs)
    finally:
        gc.enable()
        dist.all_reduce = original
    return log, len(calls), alive


def test_weights_come_after_the_all_reduce_has_begun(rank_pool: RankPool) -> None:
    for log, _, alive in rank_pool.run(2, order_of_events, False):
        assert log == ["all_reduce", *["weight"] * TASKS]
        assert alive == 0


def test_hooks_are_called_once_in_the_usual_order(rank_pool: RankPool) -> None:
    for log, calls, _ in rank_pool.run(2, order_of_events, True):
        assert log == [*["weight"] * TASKS, "all_reduce"]
        assert calls == 1


def twice(ranks: Ranks) -> str:
    layer = BalancingLayer(create_balancer("multibalance", TASKS))
    outputs = layer.through(torch.ones(ROWS, WIDTH, requires_grad=True), chains())
    loss = torch.stack([output.mean() for output in outputs]).sum()
    loss.backward(retain_graph=True)
    try:
        loss.backward()
    except RuntimeError as error:
        return str(error)
    return ""


def test_a_second_backward_is_refused(rank_pool: RankPool) -> None:
    assert all("a second backward pass reached the balancing layer" in text for text in rank_pool.run(2, twice))


def outlives_its_outputs(ranks: Ranks, heads: str) -> bool:
    """Whether the graph of a step without a backward needs Python's collector of cycles."""
    layer = BalancingLayer(create_balancer("multibalance", TASKS))
    gc.disable()
    try:
        outputs = layer.through(torch.ones(ROWS, WIDTH, requires_grad=True), HEADS[heads]())
        graph = weakref.ref(outputs[0].grad_fn)
        del outputs
        return graph() is not None
    finally:
        gc.enable()


@pytest.mark.parametrize("heads", HEADS)
def test_a_step_without_backward_leaves_nothing(rank_pool: RankPool, heads: str) -> None:
    assert rank_pool.run(2, outlives_its_outputs, heads) == [False, False]


@pytest.mark.parametrize(
    ("method", "reduction", "training"),
    [
        ("mean", "exact", True),
        ("multibalance", "delayed", True),
        ("multibalance", "local", True),
        ("mgda", "exact", False),
    ],
)
def test_nothing_is_put_off_where_nobody_waits(
    rank_pool: RankPool, method: str, reduction: str, training: bool
) -> None:
    assert all(node != "_BalanceHeadsBackward" for node in rank_pool.run(2, node_of, method, reduction, training))


def node_of(ranks: Ranks, method: str, reduction: Any, training: bool) -> str:
    layer = BalancingLayer(create_balancer(method, TASKS), reduction=reduction).train(training)
    outputs = layer.through(torch.ones(ROWS, WIDTH, requires_grad=True), chains())
    return type(outputs[0].grad_fn).__name__


def test_one_process_does_not_wait() -> None:
    layer = BalancingLayer(create_balancer("multibalance", TASKS))
    heads = chains()
    shared = torch.randn(ROWS, WIDTH, requires_grad=True)
    outputs = layer.through(shared, heads)
    assert type(outputs[0].grad_fn).__name__ != "_BalanceHeadsBackward"
    assert all(torch.equal(output, head(shared)) for output, head in zip(outputs, heads, strict=True))


def test_heads_are_counted() -> None:
    layer = BalancingLayer(create_balancer("multibalance", TASKS))
    with pytest.raises(ValueError, match="2 heads, expected 3"):
        layer.through(torch.ones(2, WIDTH), chains()[:2])
