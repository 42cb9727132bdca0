"""Tasks without a row in a batch: their loss, the mean of no values, is NaN, and their gradient is zero.

A task that has diverged has a NaN loss too, but its gradient is not zero.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dlrm_mtl.balancing.algebra.arrays import Array, namespace
from dlrm_mtl.balancing.algebra.finite import readable_on_host


def losses_of_rows(losses: Tensor, gradients: Sequence[Tensor | None]) -> Tensor:
    """The losses, with 0 for tasks without a row, whose loss is NaN and whose gradient is zero or None.

    So a rank without rows of a task adds nothing to the task's global loss.

    Args:
        losses: (M,).
        gradients: M tensors of one shape, or None.
    """
    if readable_on_host(losses) and not any(map(math.isnan, losses.tolist())):
        return losses
    zeroed: Tensor = zero_where_empty(losses, silent_tasks(gradients, losses.device))
    return zeroed


def zero_where_empty(losses: Array, silent: Array) -> Array:
    """The losses, with 0 for NaN losses of silent tasks, (M,) bool."""
    return namespace(losses).where((losses != losses) & silent, 0.0, losses)


def silent_tasks(gradients: Sequence[Tensor | None], device: torch.device) -> Tensor:
    """(M,) bool, tasks whose gradient is zero or None. Without host synchronisation."""
    present = [gradient for gradient in gradients if gradient is not None]
    norms = iter(torch._foreach_norm(present, 1)) if present else iter(())
    silent = torch.ones((), dtype=torch.bool, device=device)
    return torch.stack([silent if gradient is None else next(norms) == 0 for gradient in gradients])
