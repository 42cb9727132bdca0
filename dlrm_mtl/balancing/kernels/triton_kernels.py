# mypy: disable-error-code="no-untyped-def, assignment"
"""The two operations on whole gradients as Triton kernels, for NVIDIA GPUs: each reads every gradient once.

They run on the current GPU. Import this module only where Triton is installed.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

WARPS = 4
THREADS = 32 * WARPS

LONGEST = 32
"""Most products that are added in float32 one after another; the sums of programs are added in float64."""

PROGRAMS = 512
"""Enough to keep the multiprocessors of a GPU busy; for more elements each program does more."""

SUM_BLOCK = 1024


def triton_products(flat: Sequence[Tensor]) -> Tensor:
    """Partial sums of the inner products of M gradients on one GPU.

    Args:
        flat: M contiguous tensors (N,) of one dtype: float32, bfloat16 or float16.

    Returns:
        (M (M + 1) / 2, P) float32: for each pair i <= j, in the order of nested loops, P terms of its inner product.
    """
    num_tasks, size, device = len(flat), flat[0].numel(), flat[0].device
    block = THREADS * _elements_of_a_thread(num_tasks)
    blocks = size // block
    iterations = min(max(blocks // PROGRAMS, 1), LONGEST)
    programs = max(-(-blocks // iterations), 1)
    partial = torch.empty(num_tasks * (num_tasks + 1) // 2, programs, dtype=torch.float32, device=device)
    _products[(programs,)](tuple(flat), partial, size, iterations, BLOCK=block, num_warps=WARPS)
    return partial


def triton_gramian(partial: Tensor, num_tasks: int) -> Tensor:
    """(M, M) float64, of what :func:`triton_products` returns."""
    gramian = torch.empty(num_tasks, num_tasks, dtype=torch.float64, device=partial.device)
    _symmetric_sums[(num_tasks, num_tasks)](partial, gramian, partial.shape[1], BLOCK=SUM_BLOCK, num_warps=WARPS)
    return gramian


def triton_weighted_sum(flat: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Sum over m of weights[m] * flat[m], accumulated in float32.

    Args:
        flat: M contiguous tensors (N,) of one dtype: float32, bfloat16 or float16.
        weights: (M,) of any floating dtype, contiguous.

    Returns:
        (N,) in the gradients' dtype.
    """
    combined = torch.empty_like(flat[0])
    size, block = combined.numel(), THREADS * 8
    _weighted_sum[(-(-size // block),)](tuple(flat), weights, combined, size, BLOCK=block, num_warps=WARPS)
    return combined


def _elements_of_a_thread(num_tasks: int) -> int:
    """At a time: as many as fit into registers beside the sums of all pairs."""
    return next(count for most, count in ((4, 8), (8, 4), (11, 2), (num_tasks, 1)) if num_tasks <= most)


@triton.jit
def _add_products(values, sums):
    total = ()
    for i in tl.static_range(len(values)):
        for j in tl.static_range(i, len(values)):
            total += (tl.fma(values[i], values[j], sums[len(total)]),)
    return total


@triton.jit(do_not_specialize=["size", "iterations"])
def _products(gradients, partial, size, iterations, BLOCK: tl.constexpr):
    """(pairs, programs): sums of products of a program's elements; pairs i <= j in the order of nested loops."""
    program = tl.program_id(0)
    programs = tl.num_programs(0)
    lanes = tl.arange(0, BLOCK)
    sums = ()
    for i in tl.static_range(len(gradients)):
        for _ in tl.static_range(i, len(gradients)):
            sums += (tl.zeros((BLOCK,), tl.float32),)
    first = program.to(tl.int64) * iterations
    blocks = size // BLOCK
    for block in range(first, tl.minimum(first + iterations, blocks)):
        offsets = block * BLOCK + lanes
        values = ()
        for m in tl.static_range(len(gradients)):
            values += (tl.load(gradients[m] + offsets).to(tl.float32),)
        sums = _add_products(values, sums)
    # The rest separately, since masked loads are not vectorised.
    if program == programs - 1:
        offsets = blocks * BLOCK + lanes
        values = ()
        for m in tl.static_range(len(gradients)):
            values += (tl.load(gradients[m] + offsets, mask=offsets < size, other=0.0).to(tl.float32),)
        sums = _add_products(values, sums)
    for pair in tl.static_range(len(sums)):
        tl.store(partial + pair * programs + program, tl.sum(sums[pair], axis=0))


@triton.jit(do_not_specialize=["programs"])
def _symmetric_sums(partial, gramian, programs, BLOCK: tl.constexpr):
    i = tl.minimum(tl.program_id(0), tl.program_id(1))
    j = tl.maximum(tl.program_id(0), tl.program_id(1))
    num_tasks = tl.num_programs(0)
    row = partial + (i * num_tasks - i * (i - 1) // 2 + j - i) * programs
    lanes = tl.arange(0, BLOCK)
    sums = tl.zeros((BLOCK,), tl.float64)
    for start in range(0, programs, BLOCK):
        sums += tl.load(row + start + lanes, mask=start + lanes < programs, other=0.0).to(tl.float64)
    tl.store(gramian + tl.program_id(0) * num_tasks + tl.program_id(1), tl.sum(sums, axis=0))


@triton.jit(do_not_specialize=["size"])
def _weighted_sum(gradients, weights, combined, size, BLOCK: tl.constexpr):
    start = tl.program_id(0).to(tl.int64) * BLOCK
    offsets = start + tl.arange(0, BLOCK)
    dtype = combined.dtype.element_ty
    if start + BLOCK <= size:
        total = tl.load(gradients[0] + offsets).to(tl.float32) * tl.load(weights).to(tl.float32)
        for m in tl.static_range(1, len(gradients)):
            total += tl.load(gradients[m] + offsets).to(tl.float32) * tl.load(weights + m).to(tl.float32)
        tl.store(combined + offsets, total.to(dtype))
    else:
        inside = offsets < size
        total = tl.load(gradients[0] + offsets, mask=inside).to(tl.float32) * tl.load(weights).to(tl.float32)
        for m in tl.static_range(1, len(gradients)):
            total += tl.load(gradients[m] + offsets, mask=inside).to(tl.float32) * tl.load(weights + m).to(tl.float32)
        tl.store(combined + offsets, total.to(dtype), mask=inside)
