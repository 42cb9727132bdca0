"""The Gramian of per-task gradients: M x M inner products over the flattened global batch."""

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from dlrm_mtl.balancing.kernels.cpu_kernels import cpu_kernels
from dlrm_mtl.balancing.kernels.finite import host_may_look
from dlrm_mtl.balancing.kernels.gpu_kernels import gpu_kernels

CACHE_ELEMENTS = 1 << 19
"""float32 elements that a CPU core's second-level cache holds: chunks of all M gradients together stay within."""

DOT_ELEMENTS = 9 << 14
"""Elements whose products a CPU sums in float32; the sums of such chunks are added in float64. The relative error of
torch.dot grows with them: 1e-6 at so many, 1e-4 where all products are equal."""

WIDENED_ELEMENTS = 1 << 24
"""Elements of all M gradients that are widened to float32 at a time on a GPU."""


def local_gramian(gradients: Sequence[Tensor | None], device: torch.device) -> Tensor:
    """Inner products of M gradients of one rank.

    On a GPU by a Triton kernel, on a CPU by one in C, that reads each gradient once. Where neither applies, by pairwise
    dots, on a CPU chunk by chunk, so that each is read from memory once; bf16 and fp16 gradients are then widened to
    float32 a chunk at a time. Contiguous gradients are not copied.

    Args:
        gradients: M tensors of one shape, any floating dtype; None is a task without a gradient: zeros.
        device: where the result goes, if every gradient is None.

    Returns:
        (M, M) symmetric, float64; accumulated in float32, or in float64 for float64 gradients.
    """
    num_tasks = len(gradients)
    present = {m: gradient for m, gradient in enumerate(gradients) if gradient is not None}
    if not present:
        return torch.zeros(num_tasks, num_tasks, dtype=torch.float64, device=device)
    gramian = _gramian_of(list(present.values()))
    if len(present) == num_tasks:
        return gramian
    tasks = list(present)
    return _with_zeros(_with_zeros(gramian, tasks, num_tasks).T, tasks, num_tasks)


def _gramian_of(gradients: Sequence[Tensor]) -> Tensor:
    if host_may_look(gradients[0]):
        return torch.tensor(_host_gramian(gradients), dtype=torch.float64, device="cpu")
    flat = [_flat(gradient) for gradient in gradients]
    kernels = gpu_kernels(flat)
    return _plain_gramian(flat) if kernels is None else kernels.triton_gramian(kernels.triton_products(flat), len(flat))


def _host_gramian(gradients: Sequence[Tensor]) -> list[list[float]]:
    flat = [_flat(gradient) for gradient in gradients]
    kernels = cpu_kernels(flat)
    if kernels is not None:
        return kernels.gramian()
    tasks = range(len(flat))
    product = dict(zip(_pairs(tasks), _host_products(flat), strict=True))
    return [[product[min(i, j), max(i, j)] for j in tasks] for i in tasks]


def gramian_parts(gradients: Sequence[Tensor | None]) -> Tensor | None:
    """Terms of a Gramian for :func:`gramian_of_parts`, so that a CUDA graph can add them up.

    Returns:
        (M (M + 1) / 2, P) float32; None where :func:`local_gramian` is to be used.
    """
    present = [gradient for gradient in gradients if gradient is not None]
    if len(present) < len(gradients):
        return None
    kernels = gpu_kernels(present)
    return None if kernels is None else kernels.triton_products([_flat(gradient) for gradient in present])


def gramian_of_parts(parts: Tensor, num_tasks: int) -> Tensor:
    """(M, M) float64."""
    from dlrm_mtl.balancing.kernels.triton_kernels import triton_gramian  # only where there is Triton

    return triton_gramian(parts, num_tasks)


def _flat(gradient: Tensor) -> Tensor:
    # Contiguous: a flat gradient may still be an expanded element, whose products torch.dot adds one by one.
    return gradient.view(-1) if gradient.is_contiguous() else gradient.reshape(-1).contiguous()


Item = TypeVar("Item")


def _pairs(items: Iterable[Item]) -> Iterator[tuple[Item, Item]]:
    return itertools.combinations_with_replacement(items, 2)


def _with_zeros(rows: Tensor, tasks: Sequence[int], num_tasks: int) -> Tensor:
    """(M, K): the given rows at the given tasks, zeros elsewhere."""
    present = dict(zip(tasks, rows.unbind(), strict=True))
    zeros = torch.zeros_like(rows[0])
    return torch.stack([present.get(m, zeros) for m in range(num_tasks)])


def _host_products(flat: Sequence[Tensor]) -> list[float]:
    """Inner products of every pair of gradients on a CPU, in the order of :func:`_pairs`."""
    size = _dot_elements(flat)
    if _is_wide(flat[0]) and len(flat[0]) <= size:
        return [torch.dot(left, right).item() for left, right in _pairs(flat)]
    totals = [0.0 for _ in _pairs(flat)]
    for chunk in _chunks(flat, size):
        pairs = _pairs(chunk if _is_wide(flat[0]) else [piece.float() for piece in chunk])
        totals = [total + torch.dot(left, right).item() for total, (left, right) in zip(totals, pairs, strict=True)]
    return totals


def _plain_gramian(flat: Sequence[Tensor]) -> Tensor:
    """(M, M) float64, without the host's looking."""
    products = _plain_products(flat).unbind()
    value = dict(zip(_pairs(range(len(flat))), products, strict=True))
    tasks = range(len(flat))
    return torch.stack([value[min(i, j), max(i, j)] for i in tasks for j in tasks]).view(len(flat), len(flat))


def _plain_products(flat: Sequence[Tensor]) -> Tensor:
    size = _dot_elements(flat)
    partial = []
    for chunk in [flat] if _is_wide(flat[0]) and len(flat[0]) <= size else _chunks(flat, size):
        pieces = chunk if _is_wide(flat[0]) else [piece.float() for piece in chunk]
        partial.append(torch.stack([torch.dot(left, right) for left, right in _pairs(pieces)]).double())
    return partial[0] if len(partial) == 1 else torch.stack(partial).sum(dim=0)


def _dot_elements(flat: Sequence[Tensor]) -> int:
    """Elements of each gradient whose products are taken at a time."""
    size = _chunk_elements(flat[0]) // len(flat)
    return min(size, DOT_ELEMENTS) if flat[0].device.type == "cpu" else size


def _is_wide(gradient: Tensor) -> bool:
    """Whether nothing has to be widened."""
    return gradient.element_size() >= 4


def _chunks(flat: Sequence[Tensor], size: int) -> Iterator[tuple[Tensor, ...]]:
    """The same elements of all gradients together, ``size`` of each at a time."""
    return zip(*(gradient.split(size) for gradient in flat), strict=True)


def _chunk_elements(gradient: Tensor) -> int:
    """Elements of all gradients that are treated at a time."""
    if gradient.device.type == "cpu":
        return CACHE_ELEMENTS
    return sys.maxsize if _is_wide(gradient) else WIDENED_ELEMENTS


def combine_gradients(gradients: Sequence[Tensor | None], coefficients: Tensor) -> Tensor | None:
    """Weighted sum of M gradients, without a stacked copy.

    Args:
        gradients: M tensors of one shape, or None.
        coefficients: (M,) float64, on the gradients' device.

    Returns:
        sum over m of coefficients[m] * gradients[m] in the gradients' dtype, accumulated in at least float32;
        None if every gradient is None.
    """
    present = {m: gradient for m, gradient in enumerate(gradients) if gradient is not None}
    if not present:
        return None
    kept = list(present.values())
    if len(kept) < len(gradients):
        coefficients = torch.stack([coefficients[m] for m in present])
    kernels = gpu_kernels(kept)
    if kernels is not None:
        flat = [_flat(gradient) for gradient in kept]
        return kernels.triton_weighted_sum(flat, coefficients.contiguous()).view(kept[0].shape)
    on_cpu = cpu_kernels(kept) if host_may_look(coefficients) else None
    if on_cpu is not None:
        return on_cpu.weighted_sum(coefficients.tolist())
    return _plain_weighted_sum(kept, coefficients.to(torch.promote_types(kept[0].dtype, torch.float32)))


def _plain_weighted_sum(gradients: Sequence[Tensor], weights: Tensor) -> Tensor:
    if gradients[0].dtype == weights.dtype:
        return _weighted_sum(gradients, weights)
    # Widened a chunk at a time, as in the Gramian.
    flat = [gradient.reshape(-1) for gradient in gradients]
    combined = torch.empty_like(flat[0])
    size = _chunk_elements(flat[0]) // len(flat)
    for part, *pieces in _chunks([combined, *flat], size):
        part.copy_(_weighted_sum([piece.float() for piece in pieces], weights))
    return combined.view(gradients[0].shape)


def _weighted_sum(gradients: Sequence[Tensor], weights: Tensor) -> Tensor:
    if host_may_look(weights):
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


def local_pooled(gradients: Sequence[Tensor | None], device: torch.device) -> Tensor:
    """Batch-pooled gradients of one rank: each gradient summed over its rows.

    Args:
        gradients: M tensors (B, D), or (D,) if pooled already; None is a task without a gradient: zeros.
        device: where the result goes, if every gradient is None.

    Returns:
        (M, D) float64.
    """
    present = [gradient for gradient in gradients if gradient is not None]
    width = present[0].shape[-1] if present else 0
    zero = torch.zeros(width, dtype=torch.float64, device=device)
    return torch.stack(
        [
            zero if gradient is None else gradient.reshape(-1, width).sum(dim=0, dtype=torch.float64)
            for gradient in gradients
        ]
    )
