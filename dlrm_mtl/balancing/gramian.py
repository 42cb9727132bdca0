"""The Gramian of per-task gradients: M x M inner products over the flattened global batch."""

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor

from dlrm_mtl.balancing.finite import host_may_look
from dlrm_mtl.balancing.fused import ROW_ELEMENTS, fused_products, fused_weighted_sum, is_fused

CACHE_ELEMENTS = 1 << 19
"""float32 elements that a CPU core's second-level cache holds: chunks of all M gradients together stay within."""

DOT_ELEMENTS = 9 << 14
"""Elements whose products a CPU sums in float32; the sums of such chunks are added in float64. The relative error of
torch.dot grows with them: 1e-6 at so many, 1e-4 where all products are equal."""

WIDENED_ELEMENTS = 1 << 24
"""Elements of all M gradients that are widened to float32 at a time on a GPU."""


def local_gramian(gradients: Sequence[Tensor | None], device: torch.device) -> Tensor:
    """Inner products of M gradients of one rank.

    Large gradients by a compiled loop that reads each once (see ``fused.py``). Others by pairwise dots, chunk by chunk
    on a CPU, so that each is read from memory once. Contiguous gradients are not copied, but bf16 and fp16 ones are
    widened to float32 a chunk at a time.

    Args:
        gradients: M tensors of one shape, any floating dtype; None is a task without a gradient: zeros.
        device: where the result goes, if every gradient is None.

    Returns:
        (M, M) symmetric, float64; accumulated in float32, or in float64 for float64 gradients.
    """
    num_tasks = len(gradients)
    tasks = [m for m, gradient in enumerate(gradients) if gradient is not None]
    flat = [_flat(gradient) for gradient in gradients if gradient is not None]
    if not flat:
        return torch.zeros(num_tasks, num_tasks, dtype=torch.float64, device=device)
    if host_may_look(flat[0]):
        rows = [[0.0] * num_tasks for _ in range(num_tasks)]
        for (i, j), value in zip(_pairs(tasks), _host_products(flat), strict=True):
            rows[i][j] = rows[j][i] = value
        return torch.tensor(rows, dtype=torch.float64, device=flat[0].device)
    products = _device_products(flat)
    if len(tasks) < num_tasks:
        of_pairs = dict(zip(_pairs(tasks), products, strict=True))
        zero = torch.zeros_like(products[0])
        products = torch.stack([of_pairs.get(pair, zero) for pair in _pairs(range(num_tasks))])
    return products.take(_symmetric_index(num_tasks, products.device))


def _flat(gradient: Tensor) -> Tensor:
    # Contiguous: a flat gradient may still be an expanded element, whose products torch.dot adds one by one.
    return gradient.view(-1) if gradient.is_contiguous() else gradient.reshape(-1).contiguous()


Item = TypeVar("Item")


def _pairs(items: Iterable[Item]) -> Iterator[tuple[Item, Item]]:
    return itertools.combinations_with_replacement(items, 2)


@lru_cache(maxsize=64)
def _symmetric_index(num_tasks: int, device: torch.device) -> Tensor:
    """(M, M) position of each pair in the order of :func:`_pairs`."""
    position = {pair: index for index, pair in enumerate(_pairs(range(num_tasks)))}
    tasks = range(num_tasks)
    return torch.tensor([[position[min(i, j), max(i, j)] for j in tasks] for i in tasks], device=device)


def _host_products(flat: Sequence[Tensor]) -> list[float]:
    """Inner products of every pair of gradients on a CPU, in the order of :func:`_pairs`."""
    if is_fused(flat):
        return _fused_products(flat).tolist()  # type: ignore[no-any-return]
    size = _dot_elements(flat)
    if _is_wide(flat[0]) and len(flat[0]) <= size:
        return [torch.dot(left, right).item() for left, right in _pairs(flat)]
    totals = [0.0 for _ in _pairs(flat)]
    for chunk in _chunks(flat, size):
        pairs = _pairs(chunk if _is_wide(flat[0]) else [piece.float() for piece in chunk])
        totals = [total + torch.dot(left, right).item() for total, (left, right) in zip(totals, pairs, strict=True)]
    return totals


def _device_products(flat: Sequence[Tensor]) -> Tensor:
    """The same, without the host's looking: (M (M + 1) / 2,) float64."""
    return _fused_products(flat) if is_fused(flat) else _plain_products(flat)


def _fused_products(flat: Sequence[Tensor]) -> Tensor:
    size = len(flat[0]) - len(flat[0]) % ROW_ELEMENTS
    products = fused_products([gradient[:size] for gradient in flat])
    if products is None:
        return _plain_products(flat)
    return products if size == len(flat[0]) else products + _plain_products([gradient[size:] for gradient in flat])


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
    weights = coefficients.to(torch.promote_types(kept[0].dtype, torch.float32))
    if len(kept) < len(gradients):
        weights = torch.stack([weights[m] for m in present])
    combined = fused_weighted_sum(kept, weights)
    return _plain_weighted_sum(kept, weights) if combined is None else combined


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
