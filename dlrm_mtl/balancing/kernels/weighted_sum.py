"""The weighted sum of per-task gradients."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dlrm_mtl.balancing.algebra.arrays import Array, namespace
from dlrm_mtl.balancing.algebra.finite import Truth, all_finite, choose, readable_on_host
from dlrm_mtl.balancing.kernels.chunks import chunk_elements, chunks_of, flat
from dlrm_mtl.balancing.kernels.cpu_kernels import cpu_kernels
from dlrm_mtl.balancing.kernels.gpu_kernels import gpu_kernels
from dlrm_mtl.balancing.kernels.gradients import CutGradients, MixtureGradients, TensorGradients, dtypes_of, tensors_of

LARGEST = {dtype: torch.finfo(dtype).max for dtype in (torch.float32, torch.bfloat16, torch.float64)}
"""Largest numbers of the dtypes in which finite norms show that the weighted sum is finite. In float16 the norm of
scaled gradients may overflow where no element does."""


def bounding_dtype(cut: CutGradients) -> torch.dtype | None:
    """The dtype, among those of the gradients, in which their norms bound every element of the weighted sum, so that it
    need not be checked; None where they do not, and where the C kernel checks it in passing."""
    if not any(isinstance(gradients, MixtureGradients) for gradients in cut) and all(
        readable_on_host(gradient) for gradient in tensors_of(cut)
    ):
        return None
    dtypes = dtypes_of(cut)
    if not dtypes <= LARGEST.keys():
        return None
    return min(dtypes, key=LARGEST.__getitem__, default=torch.float64)


def bounded_coefficients(coefficients: Array, gramian: Array, finite: Truth, dtype: torch.dtype) -> Array:
    """The coefficients; NaN if the weighted sum, each of whose elements the norms bound, might not be finite.

    Args:
        coefficients: (M,) float64.
        gramian: (M, M) of the gradients that they are applied to.
        finite: whether losses and statistics are finite.
        dtype: of the gradients.
    """
    bounded = abs(coefficients) @ namespace(gramian).sqrt(gramian.diagonal()) < LARGEST[dtype]
    return choose(finite & bounded, coefficients, torch.nan)


def combine_gradients(gradients: TensorGradients, coefficients: Tensor) -> Tensor | None:
    """The weighted sum of :func:`combine_and_check`."""
    return combine_and_check(gradients, coefficients, check=False)[0]


def combine_and_check(
    gradients: TensorGradients | MixtureGradients, coefficients: Tensor, check: bool
) -> tuple[Tensor | None, Truth]:
    """Weighted sum of M gradients, without a stacked copy.

    Args:
        gradients: M tensors of one shape, or None; or what they are made of.
        coefficients: (M,) float64, on the gradients' device.
        check: whether to check that the sum is finite.

    Returns:
        the sum over m of coefficients[m] * gradients[m] in the gradients' dtype, accumulated in at least float32, or
        None if every gradient is None; and whether all of it is finite, True if not checked.
    """
    if isinstance(gradients, MixtureGradients):
        combined = gradients.weighted_sum(coefficients)
        return combined, elements_are_finite(combined) if check else True
    present = {m: gradient for m, gradient in enumerate(gradients) if gradient is not None}
    if not present:
        return None, True
    rows = list(present.values())
    if len(rows) < len(gradients):
        coefficients = torch.stack([coefficients[m] for m in present])
    kernels = gpu_kernels(rows)
    if kernels is not None:
        flattened = [flat(gradient) for gradient in rows]
        combined = kernels.triton_weighted_sum(flattened, coefficients.contiguous()).view(rows[0].shape)
    else:
        on_cpu = cpu_kernels(rows) if readable_on_host(coefficients) else None
        if on_cpu is not None:
            return on_cpu.weighted_sum(coefficients.tolist())
        combined = _plain_weighted_sum(rows, coefficients.to(torch.promote_types(rows[0].dtype, torch.float32)))
    return combined, elements_are_finite(combined) if check else True


def elements_are_finite(values: Tensor) -> Truth:
    """Whether a large tensor is finite, by the sum of its elements: the cheapest check. In at least float32, since a
    narrower sum may overflow where no element does."""
    return all_finite(values.sum(dtype=torch.promote_types(values.dtype, torch.float32)))


def _plain_weighted_sum(gradients: Sequence[Tensor], weights: Tensor) -> Tensor:
    if gradients[0].dtype == weights.dtype:
        return _weighted_sum(gradients, weights)
    flattened = [gradient.reshape(-1) for gradient in gradients]
    combined = torch.empty_like(flattened[0])
    size = chunk_elements(flattened[0]) // len(flattened)
    for part, *pieces in chunks_of([combined, *flattened], size):
        part.copy_(_weighted_sum([piece.float() for piece in pieces], weights))
    return combined.view(gradients[0].shape)


def _weighted_sum(gradients: Sequence[Tensor], weights: Tensor) -> Tensor:
    if readable_on_host(weights):
        first, *others = weights.tolist()
        total = gradients[0] * first
        for gradient, weight in zip(gradients[1:], others, strict=True):
            total.add_(gradient, alpha=weight)
        return total
    first, *others = weights.unbind()
    total = gradients[0] * first
    for gradient, weight in zip(gradients[1:], others, strict=True):
        total.addcmul_(gradient, weight)
    return total
