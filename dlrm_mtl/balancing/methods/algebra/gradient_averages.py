"""Moving averages of batch-pooled gradients, for the methods that keep them."""

import torch
from torch import Tensor


def advance_averages(averages: Tensor, gradients: Tensor, share: float | Tensor) -> Tensor:
    """One step of each task's moving average. The first gradient of a task is its average; a task without a gradient in
    this step keeps it.

    Args:
        averages: (M, D) float64, zeros for a task that had no gradient yet; (M, 0) before the first step.
        gradients: (M, D) float64; (M, 0) where no task had a gradient.
        share: of the new gradient.
    """
    if gradients.shape[1] == 0:
        return averages
    if averages.shape[1] == 0:
        return gradients
    started = (averages != 0).any(dim=1, keepdim=True)
    silent = (gradients == 0).all(dim=1, keepdim=True)
    moved = torch.where(started, torch.lerp(averages, gradients, share), gradients)
    return torch.where(silent, averages, moved)
