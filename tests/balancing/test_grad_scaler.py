"""The layer alone in a user's model, under torch's GradScaler: steps that are not finite are skipped."""

from typing import Any

import pytest
import torch
from torch import Tensor

from dlrm_mtl.balancing import BalancingLayer, create_balancer
from dlrm_mtl.balancing.layer import Reduction
from tests.balancing.small_model import SmallModel, batch, task_losses

ROWS = 16
METHODS = ["mean", "multibalance", "mgda", "moco", "imtl_l+imtl_g"]


class Run:
    """A training run whose losses are scaled by a power of two, so that only overflows make a difference."""

    def __init__(self, name: str, scale: float, dtype: torch.dtype, reduction: Reduction = "exact") -> None:
        self.layer = BalancingLayer(create_balancer(name, 3), reduction=reduction)
        self.model = SmallModel(3, self.layer, torch.float32)
        self.optimizer = torch.optim.SGD([*self.model.parameters()], lr=0.05)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1000)
        self.dtype = dtype

    def step(self, step: int, bad: float | None = None) -> bool:
        """Whether the step was skipped."""
        features, labels = batch(step, ROWS, 3, torch.float32)
        # Bottom and heads are in float32, so that the one thing that can overflow is the gradient that the layer gets.
        views = self.layer(self.model.bottom(features).to(self.dtype))
        logits = [head(view.float()).squeeze(1) for head, view in zip(self.model.heads, views, strict=True)]
        losses = torch.stack(task_losses(logits, labels))
        if bad is not None:
            losses = losses + torch.tensor([0.0, bad, 0.0])
        self.optimizer.zero_grad()
        before = self.scaler.get_scale()
        self.scaler.scale(self.layer.weigh_losses(losses).sum()).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return self.scaler.get_scale() < before

    def state(self) -> dict[str, Tensor]:
        """All but counts and the pending step of a delayed layer."""
        in_flight = ("pending_", "delayed_")
        stored = self.layer.state_dict().items()
        layer = {key: value for key, value in stored if "step" not in key and not key.startswith(in_flight)}
        return {key: value.clone() for key, value in (dict(self.model.named_parameters()) | layer).items()}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    """A buffer of gradients may have got its width and still be empty."""
    pairs = [(left[key], right[key]) for key in left.keys() | right.keys()]
    return all(torch.equal(a, b) if a.shape == b.shape else not (a.any() or b.any()) for a, b in pairs)


@pytest.mark.parametrize("reduction", ["exact", "delayed"])
@pytest.mark.parametrize("name", METHODS)
def test_a_scale_that_overflows_is_lowered_until_it_does_not(name: str, reduction: Any) -> None:
    """In float16; afterwards the run equals one that began with the right scale."""
    run = Run(name, 2.0**30, torch.float16, reduction)
    start, skipped = run.state(), 0
    while run.step(0):
        skipped += 1
        assert same(run.state(), start)
    assert skipped > 5
    twin = Run(name, run.scaler.get_scale(), torch.float16, reduction)
    twin.step(0)
    for step in range(1, 6):
        assert run.step(step) == twin.step(step)
        assert same(run.state(), twin.state())
    assert not same(run.state(), start)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", METHODS)
def test_a_loss_that_is_not_finite_is_skipped(name: str, bad: float, dtype: torch.dtype) -> None:
    run, twin = (Run(name, 16.0, dtype) for _ in range(2))
    for step in range(5):
        if step == 2:
            before = run.state()
            assert run.step(step, bad)
            assert same(run.state(), before)
            assert run.layer.nonfinite_tasks.tolist() == [0, 1, 0]
            run.scaler.update(16.0)
            continue
        assert not run.step(step)
        twin.step(step)
        assert same(run.state(), twin.state())


@pytest.mark.parametrize("name", METHODS)
def test_scaling_changes_nothing_else(name: str) -> None:
    plain, scaled = Run(name, 1.0, torch.float32), Run(name, 1024.0, torch.float32)
    for step in range(6):
        plain.step(step)
        scaled.step(step)
    for key, value in plain.state().items():
        factor = 1024.0 if "norms" in key or "averages" in key else 1.0
        torch.testing.assert_close(scaled.state()[key], factor * value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", METHODS)
def test_under_autocast(name: str, dtype: torch.dtype) -> None:
    """A loss that is not finite reaches the GradScaler, and the balancer's state is that of the other steps."""
    layer, twin = (BalancingLayer(create_balancer(name, 3)) for _ in range(2))
    for own, bad in ((layer, True), (twin, False)):
        model = SmallModel(3, own, torch.float32)
        optimizer = torch.optim.SGD(list(model.parameters()), lr=0.05)
        scaler = torch.amp.GradScaler("cpu", init_scale=16.0, backoff_factor=0.5)
        for step in (0, 1, 2, 3):
            if step == 2 and not bad:
                continue
            features, labels = batch(step, ROWS, 3, torch.float32)
            with torch.autocast("cpu", dtype):
                logits = model(features)
            losses = torch.stack(task_losses([logit.float() for logit in logits], labels))
            if step == 2:
                losses = losses * torch.tensor([1.0, 1.0, torch.nan])
            optimizer.zero_grad()
            scaler.scale(own.weigh_losses(losses).sum()).backward()
            scaler.step(optimizer)
            scaler.update()
            assert scaler.get_scale() == (8.0 if step == 2 else 16.0)
            scaler.update(16.0)
    assert layer.nonfinite_tasks.tolist() == [0, 0, 1]
    for key, value in twin.state_dict().items():
        if "step" not in key:
            assert torch.equal(layer.state_dict()[key], value), key
