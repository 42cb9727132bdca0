"""State in the checkpoint, keyed by task name."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from dlrm_mtl.balancing import Balancer, BalancingLayer, Mean, MultiBalance, Static
from dlrm_mtl.balancing.layer import Reduction
from tests.balancing.backward import backward_with
from tests.balancing.methods.test_invariants import Method, method_id
from tests.balancing.resuming import make_layer


def rows(num_tasks: int, seed: int) -> Tensor:
    return torch.randn(num_tasks, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def trained(*names: str, steps: int = 5) -> MultiBalance:
    balancer = MultiBalance(len(names), beta=0.3, task_names=names)
    for step in range(steps):
        balancer.combine(rows(len(names), step))
    return balancer


def by_task(balancer: MultiBalance) -> dict[str, tuple[float, float]]:
    values = zip(balancer.weights.tolist(), balancer.norms.tolist(), strict=True)
    return dict(zip(balancer.task_names, values, strict=True))


def test_keys() -> None:
    assert set(trained("click", "like").state_dict()) == {
        "step",
        "nonfinite_steps",
        "weights.click",
        "weights.like",
        "norms.click",
        "norms.like",
    }


def test_default_task_names() -> None:
    assert MultiBalance(2).task_names == ("task0", "task1")
    assert "weights.task1" in MultiBalance(2).state_dict()


@pytest.mark.parametrize("balancer", [Mean(2), Static(2, [0.3, 0.7])], ids=["mean", "static"])
def test_fixed_weights_are_no_state(balancer: Balancer) -> None:
    assert set(balancer.state_dict()) == {"step", "nonfinite_steps"}


def test_loading_copies() -> None:
    source, target = trained("a", "b"), MultiBalance(2, task_names=["a", "b"])
    target.load_state_dict(source.state_dict())
    before = by_task(target)
    source.combine(rows(2, 50))
    assert by_task(target) == before


@pytest.mark.parametrize("prefix", ["", "model.layer.balancer."])
def test_another_task_set_keeps_the_state_of_common_tasks(prefix: str) -> None:
    source = trained("click", "like", "share")
    expected = by_task(source)
    target = MultiBalance(3, prior=[0.5, 0.2, 0.3], task_names=["follow", "share", "click"])
    module: nn.Module = target
    for name in reversed(prefix.split(".")[:-1]):
        module = nn.ModuleDict({name: module})
    state = {prefix + key: value for key, value in source.state_dict().items()}
    result = module.load_state_dict(state, strict=False)
    assert sorted(result.missing_keys) == [f"{prefix}norms.follow", f"{prefix}weights.follow"]
    assert sorted(result.unexpected_keys) == [f"{prefix}norms.like", f"{prefix}weights.like"]
    assert by_task(target) == {"follow": (0.5, 0.0), "share": expected["share"], "click": expected["click"]}
    assert target.step.item() == 5
    target.combine(rows(3, 99))
    assert target.task_weights().sum().item() == pytest.approx(1)


def test_foreign_keys_are_reported() -> None:
    target = MultiBalance(2, task_names=["a", "b"])
    state = trained("a", "b").state_dict()
    state |= {"weights": torch.ones(2), "momentum": torch.ones(2), "weights_of_old.a": torch.ones(())}
    result = target.load_state_dict(state, strict=False)
    assert sorted(result.unexpected_keys) == ["momentum", "weights", "weights_of_old.a"]
    assert result.missing_keys == []


def test_names_with_dots_and_common_prefixes() -> None:
    names = ("like", "like.click", "like.click.v2", "norms", "weights")
    source = trained(*names)
    target = MultiBalance(5, task_names=names[::-1])
    target.load_state_dict(source.state_dict())
    assert by_task(target) == by_task(source)
    smaller = MultiBalance(1, task_names=["like"])
    result = smaller.load_state_dict(source.state_dict(), strict=False)
    assert result.missing_keys == []
    assert len(result.unexpected_keys) == 8
    assert by_task(smaller) == {"like": by_task(source)["like"]}


def test_layers_share_no_state() -> None:
    model = nn.ModuleDict({"a": trained("x", steps=2), "ab": trained("x", steps=4)})
    fresh = nn.ModuleDict({"a": MultiBalance(1, task_names=["x"]), "ab": MultiBalance(1, task_names=["x"])})
    fresh.load_state_dict(model.state_dict())
    for name in ("a", "ab"):
        torch.testing.assert_close(fresh[name].state_dict(), model[name].state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("method", [("multibalance", {"beta": 0.3}), ("graddrop", {})], ids=method_id)
@pytest.mark.parametrize("reduction", ["exact", "delayed", "local"])
def test_deepcopy_is_independent(method: Method, reduction: Reduction) -> None:
    layer = make_layer(method, reduction, "ab")
    backward_with(layer, list(rows(2, 0).float()))
    twin = copy.deepcopy(layer)
    expected = [backward_with(layer, list(rows(2, seed).float())) for seed in (1, 2)]
    assert twin.balancer.step.item() < layer.balancer.step.item()
    for seed, gradient in zip((1, 2), expected, strict=True):
        assert torch.equal(backward_with(twin, list(rows(2, seed).float())), gradient)


def test_copies_share_the_process_group() -> None:
    """A process group cannot be copied."""
    group = dist.ProcessGroup(0, 1)  # type: ignore[call-arg]
    twin = copy.deepcopy(BalancingLayer(MultiBalance(2), group))
    assert twin._reducer._process_group is group
