"""The layer's backward pass with given gradients, without heads."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dlrm_mtl.balancing import BalancingLayer, ParameterLevelLayer
from dlrm_mtl.balancing.record import BalancingRecord


def state_of(layer: BalancingLayer) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in layer.state_dict().items()}


def backward_with(layer: BalancingLayer, gradients: Sequence[Tensor | None], losses: Tensor | None = None) -> Tensor:
    """The gradient at the representation if head m passes `gradients[m]`; None: the loss does not use that head."""
    if losses is not None:
        layer.weigh_losses(losses)
    given = next(gradient for gradient in gradients if gradient is not None)
    shared = torch.zeros_like(given, requires_grad=True)
    views = layer(shared)
    pairs = [(view, gradient) for view, gradient in zip(views, gradients, strict=True) if gradient is not None]
    torch.autograd.backward([view for view, _ in pairs], [gradient for _, gradient in pairs])
    assert shared.grad is not None
    return shared.grad


def record_of(layer: BalancingLayer | ParameterLevelLayer) -> BalancingRecord:
    """What the last backward recorded."""
    assert layer.record is not None
    return layer.record
