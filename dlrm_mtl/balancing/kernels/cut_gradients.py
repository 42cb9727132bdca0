"""The gradients of M tasks at a cut: one entry per tensor of the cut."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from dlrm_mtl.balancing.algebra.arrays import Array
from dlrm_mtl.balancing.algebra.finite import Truth, readable_on_host
from dlrm_mtl.balancing.kernels.empty_tasks import silent_tasks
from dlrm_mtl.balancing.kernels.gramian import gramian_of, inner_products
from dlrm_mtl.balancing.kernels.mixture import MixtureGradients
from dlrm_mtl.balancing.kernels.pooling import local_pooled
from dlrm_mtl.balancing.kernels.weighted_sum import combine_and_check, elements_are_finite

TensorGradients = Sequence[Tensor | None]
"""M gradients of a tensor's shape; None for a task whose loss does not depend on the tensor."""

CutGradients = Sequence[TensorGradients | MixtureGradients]


def cut_inner_products(cut: CutGradients, num_tasks: int, device: torch.device) -> Array:
    """Inner products of M gradients over all tensors of a cut.

    Returns:
        for one tensor, what :func:`inner_products` returns; for several, the sum of their (M, M) Gramians, float64, a
        NumPy array where the host can read it.
    """
    first, *others = (_inner_products(gradients, device) for gradients in cut)
    return (
        sum((gramian_of(products, num_tasks) for products in others), gramian_of(first, num_tasks)) if others else first
    )


def _inner_products(gradients: TensorGradients | MixtureGradients, device: torch.device) -> Array:
    if not isinstance(gradients, MixtureGradients):
        return inner_products(gradients, device)
    gramian = gradients.gramian()
    return gramian.numpy() if readable_on_host(gramian) else gramian


def cut_silent_tasks(cut: CutGradients, device: torch.device) -> Tensor:
    """(M,) bool, tasks whose gradient is zero or None at all tensors."""
    each = [
        gradients.silent() if isinstance(gradients, MixtureGradients) else silent_tasks(gradients, device)
        for gradients in cut
    ]
    return each[0] if len(each) == 1 else torch.stack(each).all(dim=0)


def combine_part(
    gradients: TensorGradients | MixtureGradients, coefficients: Tensor, check: bool
) -> tuple[Tensor | None, Truth]:
    """Weighted sum of M gradients at one tensor, as :func:`combine_and_check`."""
    if not isinstance(gradients, MixtureGradients):
        return combine_and_check(gradients, coefficients, check)
    combined = gradients.weighted_sum(coefficients)
    return combined, elements_are_finite(combined) if check else True


def pooled_part(gradients: TensorGradients | MixtureGradients, device: torch.device) -> Tensor:
    """M gradients at one tensor, summed over all but the last dimension, as :func:`local_pooled`."""
    if isinstance(gradients, MixtureGradients):
        return gradients.pooled()
    return local_pooled(gradients, device)


def per_task(gradients: TensorGradients | MixtureGradients) -> TensorGradients:
    """M gradients of the tensor's shape."""
    return gradients.per_task() if isinstance(gradients, MixtureGradients) else gradients


def tensors_of(cut: CutGradients) -> Iterator[Tensor]:
    """All gradients that are not None; for mixtures their deltas."""
    for gradients in cut:
        if isinstance(gradients, MixtureGradients):
            yield gradients.deltas
        else:
            yield from (gradient for gradient in gradients if gradient is not None)


def dtypes_of(cut: CutGradients) -> set[torch.dtype]:
    """Dtypes of the gradients."""
    return {gradient.dtype for gradient in tensors_of(cut)}
