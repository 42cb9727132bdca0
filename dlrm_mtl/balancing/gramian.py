"""The Gramian of per-task gradients: M x M inner products over the flattened global batch."""

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import torch
from torch import Tensor

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
    # Contiguous: a flat gradient may still be an expanded element, whose products torch.dot adds one by one.
    present = {m: gradient.reshape(-1).contiguous() for m, gradient in enumerate(gradients) if gradient is not None}
    if not present:
        return torch.zeros(num_tasks, num_tasks, dtype=torch.float64, device=device)
    products = _pairwise_products(list(present.values()))
    if len(present) < num_tasks:
        known = dict(zip(_pairs(present), products, strict=True))
        products = [known.get(pair, torch.zeros_like(products[0])) for pair in _pairs(range(num_tasks))]
    upper = torch.stack(products).double()  # (M (M + 1) / 2,)
    return upper.take(_symmetric_index(num_tasks, upper.device))


def _pairs(items: Iterable[int]) -> Iterator[tuple[int, int]]:
    return itertools.combinations_with_replacement(items, 2)


@lru_cache(maxsize=64)
def _symmetric_index(num_tasks: int, device: torch.device) -> Tensor:
    """(M, M) position of each pair in the order of :func:`_pairs`."""
    position = {pair: index for index, pair in enumerate(_pairs(range(num_tasks)))}
    tasks = range(num_tasks)
    return torch.tensor([[position[min(i, j), max(i, j)] for j in tasks] for i in tasks], device=device)


def _pairwise_products(flat: Sequence[Tensor]) -> list[Tensor]:
    """Inner products of every pair of gradients, as 0-d tensors, in the order of :func:`_pairs`."""
    if not is_fused(flat):
        return _plain_products(flat)
    size = len(flat[0]) - len(flat[0]) % ROW_ELEMENTS
    products = fused_products([gradient[:size] for gradient in flat])
    if products is None:
        return _plain_products(flat)
    if size < len(flat[0]):
        products = products + torch.stack(_plain_products([gradient[size:] for gradient in flat]))
    return list(products)


def _plain_products(flat: Sequence[Tensor]) -> list[Tensor]:
    pairs = list(_pairs(range(len(flat))))
    wide = torch.finfo(flat[0].dtype).bits >= 32
    size = _chunk_elements(flat[0], wide) // len(flat)
    if flat[0].device.type == "cpu":
        size = min(size, DOT_ELEMENTS)
    if wide and len(flat[0]) <= size:
        return [torch.dot(flat[i], flat[j]) for i, j in pairs]
    partial = []
    for chunk in _chunks(flat, size):
        pieces = chunk if wide else [piece.float() for piece in chunk]
        partial += [torch.dot(pieces[i], pieces[j]) for i, j in pairs]
    return list(torch.stack(partial).view(-1, len(pairs)).double().sum(dim=0))


def _chunks(flat: Sequence[Tensor], size: int) -> Iterator[tuple[Tensor, ...]]:
    """The same elements of all gradients together, ``size`` of each at a time."""
    return zip(*(gradient.split(size) for gradient in flat), strict=True)


def _chunk_elements(gradient: Tensor, wide: bool) -> int:
    if gradient.device.type == "cpu":
        return CACHE_ELEMENTS
    return sys.maxsize if wide else WIDENED_ELEMENTS


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
        return _weighted_sum(gradients, weights.unbind())
    # Widened a chunk at a time, as in the Gramian.
    flat = [gradient.reshape(-1) for gradient in gradients]
    combined = torch.empty_like(flat[0])
    size = _chunk_elements(flat[0], wide=False) // len(flat)
    for part, *pieces in _chunks([combined, *flat], size):
        part.copy_(_weighted_sum([piece.float() for piece in pieces], weights.unbind()))
    return combined.view(gradients[0].shape)


def _weighted_sum(gradients: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    total = gradients[0] * weights[0]
    for gradient, weight in zip(gradients[1:], weights[1:], strict=True):
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
