"""The Gramian of per-task gradients: M x M inner products over the flattened global batch."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from dlrm_mtl.balancing.algebra.arrays import Array, namespace, to_tensor
from dlrm_mtl.balancing.algebra.finite import readable, readable_on_host
from dlrm_mtl.balancing.kernels.chunks import chunk_elements, chunks_of, flat, is_wide
from dlrm_mtl.balancing.kernels.cpu_kernels import cpu_kernels
from dlrm_mtl.balancing.kernels.gpu_kernels import gpu_kernels
from dlrm_mtl.balancing.kernels.gradients import CutGradients, MixtureGradients, TensorGradients

DOT_ELEMENTS = 9 << 14
"""Elements whose products a CPU sums in float32; sums of such chunks are added in float64. The relative error of
torch.dot grows with their number: 1e-6 here, 1e-4 if all products are equal."""


def cut_inner_products(cut: CutGradients, num_tasks: int, device: torch.device) -> Array:
    """Inner products of M gradients over all tensors of a cut.

    Returns:
        for one tensor, what :func:`inner_products` returns; for several, the sum of their (M, M) Gramians, float64, a
        NumPy array where the host can read it.
    """
    first, *others = (inner_products(gradients, device) for gradients in cut)
    if not others:
        return first
    return sum((gramian_of(products, num_tasks) for products in others), gramian_of(first, num_tasks))


def local_gramian(gradients: Sequence[Tensor | None], device: torch.device) -> Tensor:
    """(M, M) float64 inner products of M gradients of one rank, see :func:`inner_products`."""
    return to_tensor(gramian_of(inner_products(gradients, device), len(gradients)))


def inner_products(gradients: TensorGradients | MixtureGradients, device: torch.device) -> Array:
    """Inner products of M gradients of one rank.

    A Triton kernel on a GPU, and a C kernel on a CPU, read each gradient once. Where neither applies: pairwise dots, on
    a CPU in chunks that stay in the cache; bf16 and fp16 gradients are widened to float32 a chunk at a time. Contiguous
    gradients are not copied.

    Args:
        gradients: M tensors of one shape, any floating dtype, None is treated as zeros; or what they are made of.
        device: of the result, if every gradient is None.

    Returns:
        (M, M) symmetric, float64, a NumPy array where the host can read it; accumulated in float32, or in float64 for
        float64 gradients. From the Triton kernel, (M (M + 1) / 2, P) float32 terms, which :func:`gramian_of` adds up.
    """
    if isinstance(gradients, MixtureGradients):
        return readable(gradients.gramian())
    num_tasks = len(gradients)
    present = {m: gradient for m, gradient in enumerate(gradients) if gradient is not None}
    if not present:
        return readable(torch.zeros(num_tasks, num_tasks, dtype=torch.float64, device=device))
    products = _products(list(present.values()))
    if len(present) == num_tasks:
        return products
    tasks = list(present)
    return _with_zeros(_with_zeros(gramian_of(products, len(tasks)), tasks, num_tasks).T, tasks, num_tasks)


def gramian_of(products: Array, num_tasks: int) -> Array:
    """(M, M) of what :func:`inner_products` returns."""
    if not isinstance(products, Tensor) or products.dtype == torch.float64:
        return products
    from dlrm_mtl.balancing.kernels.triton_kernels import triton_gramian  # only where there is Triton

    return triton_gramian(products, num_tasks)


def _products(gradients: Sequence[Tensor]) -> Array:
    contiguous = [gradient.contiguous() for gradient in gradients]
    on_cpu = cpu_kernels(contiguous) if readable_on_host(gradients[0]) else None
    if on_cpu is not None:
        return on_cpu.gramian()
    rows = [flat(gradient) for gradient in contiguous]
    on_gpu = gpu_kernels(rows)
    return readable(_plain_gramian(rows)) if on_gpu is None else on_gpu.triton_products(rows)


def _plain_gramian(rows: Sequence[Tensor]) -> Tensor:
    """(M, M) float64."""
    products = _pairwise_dots(rows).unbind()
    tasks = range(len(rows))
    value = dict(zip(_pairs(tasks), products, strict=True))
    return torch.stack([value[min(i, j), max(i, j)] for i in tasks for j in tasks]).view(len(rows), len(rows))


def _pairwise_dots(rows: Sequence[Tensor]) -> Tensor:
    """(M (M + 1) / 2,) in the order of :func:`_pairs`."""
    size = _dot_elements(rows)
    partial = []
    for chunk in [rows] if is_wide(rows[0]) and len(rows[0]) <= size else chunks_of(rows, size):
        pieces = chunk if is_wide(rows[0]) else [piece.float() for piece in chunk]
        partial.append(torch.stack([torch.dot(left, right) for left, right in _pairs(pieces)]).double())
    return partial[0] if len(partial) == 1 else torch.stack(partial).sum(dim=0)


def _dot_elements(rows: Sequence[Tensor]) -> int:
    """Elements of each gradient in a chunk."""
    size = chunk_elements(rows[0]) // len(rows)
    return min(size, DOT_ELEMENTS) if rows[0].device.type == "cpu" else size


Item = TypeVar("Item")


def _pairs(items: Iterable[Item]) -> Iterator[tuple[Item, Item]]:
    return itertools.combinations_with_replacement(items, 2)


def _with_zeros(rows: Array, tasks: Sequence[int], num_tasks: int) -> Array:
    """(M, K): each row at its task's index, zeros elsewhere."""
    xp = namespace(rows)
    present = dict(zip(tasks, rows, strict=True))
    zeros = xp.zeros_like(rows[0])
    return xp.stack([present.get(m, zeros) for m in range(num_tasks)])
