"""Tasks that have no row in a batch: the mean of no losses is NaN, and its gradient is zero.

A task that has diverged has a NaN loss, too. Its gradient tells it apart: that is not zero.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dlrm_mtl.balancing.kernels.finite import host_may_look


def losses_of_rows(losses: Tensor, gradients: Sequence[Tensor | None]) -> Tensor:
    """The losses, with 0 for tasks without a row: NaN, while their gradient is zero or None.

    So a rank without rows of a task adds nothing to its loss over the global batch, as it adds nothing to its gradient.

    Args:
        losses: (M,).
        gradients: M tensors of one shape, or None.
    """
    if not host_may_look(losses):
        return zero_where_empty(losses, silent_tasks(gradients, losses.device))
    if not any(map(math.isnan, losses.tolist())):
        return losses
    silent = [gradient is None or not bool(gradient.any()) for gradient in gradients]
    return zero_where_empty(losses, torch.tensor(silent, device="cpu"))


def zero_where_empty(losses: Tensor, silent: Tensor) -> Tensor:
    """The losses, with 0 where they are NaN and their task, (M,) bool, is silent."""
    return torch.where(losses.isnan() & silent, 0.0, losses)


def silent_tasks(gradients: Sequence[Tensor | None], device: torch.device) -> Tensor:
    """(M,) bool, tasks whose gradient is zero or None. Without the host's looking."""
    present = [gradient for gradient in gradients if gradient is not None]
    norms = iter(torch._foreach_norm(present, 1)) if present else iter(())
    silent = torch.ones((), dtype=torch.bool, device=device)
    return torch.stack([silent if gradient is None else next(norms) == 0 for gradient in gradients])
