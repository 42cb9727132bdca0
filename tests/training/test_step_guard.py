"""The guard of the optimizers alone: counts, and the ways of skipping on a device without asking the host."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchrec.optim.clipping import GradientClipping, GradientClippingOptimizer
from torchrec.optim.keyed import KeyedOptimizer, KeyedOptimizerWrapper
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

from dlrm_mtl.training.optimization.step_guard import (
    DeviceSkippingOptimizer,
    GuardedOptimizers,
    HostSkippingOptimizer,
    StepGuard,
)
from tests.balancing.test_synchronisation import NoHostSync

CPU = torch.device("cpu")
KERNELS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "adam": lambda values: torch.optim.Adam(values, lr=0.1, weight_decay=0.1, fused=True),
    "adamw": lambda values: torch.optim.AdamW(values, lr=0.1, weight_decay=0.1, fused=True),
    "adagrad": lambda values: torch.optim.Adagrad(values, lr=0.1, weight_decay=0.1, fused=True),
    "sgd": lambda values: torch.optim.SGD(values, lr=0.1, weight_decay=0.1, fused=True),
    "rowwise_adagrad": lambda values: RowWiseAdagrad(values, lr=0.1),
}


def parameters() -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return {name: nn.Parameter(torch.randn(4, 3, generator=generator)) for name in ("first", "second")}


def set_gradients(given: dict[str, nn.Parameter], step: int, bad: float | None = None) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in given.values():
        parameter.grad = torch.randn(4, 3, generator=generator)
    if bad is not None:
        given["second"].grad[1, 2] = bad  # type: ignore[index]


def on_device(kind: str, given: dict[str, nn.Parameter], clip: float | None = None) -> GuardedOptimizers:
    kernel = KERNELS[kind](list(given.values()))
    optimizer: KeyedOptimizer = KeyedOptimizerWrapper(given, lambda _: kernel)
    if clip is not None:
        optimizer = GradientClippingOptimizer(optimizer, GradientClipping.NORM, clip)
    guard = StepGuard(list(given.values()), CPU)
    return GuardedOptimizers([("dense", DeviceSkippingOptimizer(optimizer, kernel, guard))], guard)


def state_of(optimizer: KeyedOptimizer) -> dict[str, Tensor]:
    return {
        f"{name}/{key}": value.clone()
        for name, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("kind", KERNELS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_skipping_on_the_device(kind: str, bad: float, clip: float | None) -> None:
    mine, theirs = parameters(), parameters()
    guarded, twin = on_device(kind, mine, clip), on_device(kind, theirs, clip)
    for step in range(5):
        if step == 2:
            before = {name: value.detach().clone() for name, value in mine.items()} | state_of(guarded)
            set_gradients(mine, step, bad)
            guarded.step()
            assert guarded.guard.skipped
            after = {name: value.detach() for name, value in mine.items()} | state_of(guarded)
            # Row-wise Adagrad has no such mechanism; its own count of steps plays no part in the update.
            counts = {f"dense.{name}/step" for name in mine} if kind == "rowwise_adagrad" else set()
            assert {name for name in before if not torch.equal(before[name], after[name])} == counts
            continue
        for given, optimizer in ((mine, guarded), (theirs, twin)):
            set_gradients(given, step)
            optimizer.step()
        assert not guarded.guard.skipped
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert not torch.equal(mine["first"], parameters()["first"])


@pytest.mark.parametrize("kind", ["adam", "adamw", "adagrad", "sgd"])
def test_skipping_on_the_device_never_waits(kind: str) -> None:
    given = parameters()
    guarded = on_device(kind, given)
    for step, bad in enumerate([None, float("nan"), None]):
        set_gradients(given, step, bad)
        with NoHostSync():
            guarded.step()
    assert guarded.guard.take_counts().count == 1


def test_one_decision_for_all_parts() -> None:
    given, unchanged = parameters(), parameters()
    guard = StepGuard(list(given.values()), CPU)
    parts: list[tuple[str, KeyedOptimizer]] = [
        (
            name,
            HostSkippingOptimizer(KeyedOptimizerWrapper({name: value}, lambda v: torch.optim.SGD(v, lr=1.0)), guard),
        )
        for name, value in given.items()
    ]
    optimizer = GuardedOptimizers(parts, guard)
    set_gradients(given, 0, float("nan"))
    optimizer.step()
    assert all(torch.equal(given[name], unchanged[name]) for name in given)
    set_gradients(given, 1)
    optimizer.step()
    assert not any(torch.equal(given[name], unchanged[name]) for name in given)


def test_counts() -> None:
    given = parameters()
    guard = StepGuard(list(given.values()), CPU)

    def counts_after(flags: str) -> tuple[int, int]:
        for flag in flags:
            set_gradients(given, 0, float("nan") if flag == "x" else None)
            guard.check()
        counts = guard.take_counts()
        return counts.count, counts.longest_run

    assert counts_after("") == (0, 0)
    assert counts_after("..") == (0, 0)
    assert counts_after("xx.xxx.x") == (6, 3)
    assert counts_after("xx") == (2, 3)  # the run goes on
    assert counts_after("") == (0, 0)
    assert counts_after("x.") == (1, 4)
    assert counts_after("x") == (1, 1)


def test_parameters_without_a_gradient() -> None:
    given = parameters()
    guard = StepGuard(list(given.values()), CPU)
    guard.check()
    assert not guard.skipped
    given["second"].grad = torch.full((4, 3), torch.nan)
    guard.check()
    assert guard.skipped
