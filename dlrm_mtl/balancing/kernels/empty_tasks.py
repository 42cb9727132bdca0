"""Tasks that have no row in a batch: the mean of no losses is NaN, and its gradient is zero.

A task that has diverged has a NaN loss, too. Its gradient tells it apart: that is not zero.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dlrm_mtl.balancing.algebra.arrays import Array, namespace
from dlrm_mtl.balancing.algebra.finite import readable_on_host


def losses_of_rows(losses: Tensor, gradients: Sequence[Tensor | None]) -> Tensor:
    """The losses, with 0 for tasks without a row: NaN, while their gradient is zero or None.

    So a rank without rows of a task adds nothing to its loss over the global batch, as it adds nothing to its gradient.

    Args:
        losses: (M,).
        gradients: M tensors of one shape, or None.
    """
    if readable_on_host(losses) and not any(map(math.isnan, losses.tolist())):
        return losses
    zeroed: Tensor = zero_where_empty(losses, silent_tasks(gradients, losses.device))
    return zeroed


def zero_where_empty(losses: Array, silent: Array) -> Array:
    """The losses, with 0 where they are NaN and their task, (M,) bool, is silent."""
    return namespace(losses).where((losses != losses) & silent, 0.0, losses)


def silent_tasks(gradients: Sequence[Tensor | None], device: torch.device) -> Tensor:
    """(M,) bool, tasks whose gradient is zero or None. The host reads nothing."""
    present = [gradient for gradient in gradients if gradient is not None]
    norms = iter(torch._foreach_norm(present, 1)) if present else iter(())
    silent = torch.ones((), dtype=torch.bool, device=device)
    return torch.stack([silent if gradient is None else next(norms) == 0 for gradient in gradients])
