"""Tasks without a row in a batch: their loss, the mean of no values, is NaN, and their gradient is zero.

A task that has diverged has a NaN loss too, but its gradient is not zero.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dlrm_mtl.balancing.algebra.arrays import Array, namespace
from dlrm_mtl.balancing.algebra.finite import readable_on_host
from dlrm_mtl.balancing.kernels.gradients import CutGradients, MixtureGradients


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


def cut_silent_tasks(cut: CutGradients, device: torch.device) -> Tensor:
    """(M,) bool, tasks whose gradient is zero or None at all tensors."""
    each = [
        gradients.silent() if isinstance(gradients, MixtureGradients) else silent_tasks(gradients, device)
        for gradients in cut
    ]
    return each[0] if len(each) == 1 else torch.stack(each).all(dim=0)


def silent_tasks(gradients: Sequence[Tensor | None], device: torch.device) -> Tensor:
    """(M,) bool, tasks whose gradient is zero or None. Without host synchronisation."""
    present = [gradient for gradient in gradients if gradient is not None]
    norms = iter(torch._foreach_norm(present, 1)) if present else iter(())
    silent = torch.ones((), dtype=torch.bool, device=device)
    return torch.stack([silent if gradient is None else next(norms) == 0 for gradient in gradients])
