"""Gradients summed over the rows of the batch."""

import torch
from torch import Tensor

from dlrm_mtl.balancing.kernels.gradients import MixtureGradients, TensorGradients


def local_pooled(gradients: TensorGradients | MixtureGradients, device: torch.device) -> Tensor:
    """Gradients of one rank, each summed over all its dimensions but the last.

    Args:
        gradients: M tensors (B, D), or (D,) if pooled already, None is treated as zeros; or what they are made of.
        device: of the result, if every gradient is None.

    Returns:
        (M, D) float64.
    """
    if isinstance(gradients, MixtureGradients):
        return gradients.pooled()
    present = [gradient for gradient in gradients if gradient is not None]
    width = present[0].shape[-1] if present else 0
    zero = torch.zeros(width, dtype=torch.float64, device=device)
    return torch.stack(
        [
            zero if gradient is None else gradient.reshape(-1, width).sum(dim=0, dtype=torch.float64)
            for gradient in gradients
        ]
    )
