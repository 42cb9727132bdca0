"""Arithmetic on M numbers, written once for NumPy and torch.

On a CPU an operation on M numbers costs torch several times what it costs NumPy, most of all in training, where the
caches are full of other things. So there methods compute with NumPy arrays, and elsewhere with tensors on the device.
Both take the same operators, and most functions by the same names: ``xp = namespace(statistic)``.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = Any
"""A NumPy array, or a tensor; all that meet in one computation are of the same kind."""


def namespace(values: Array) -> Any:
    """``numpy`` or ``torch``, whose functions take ``values``."""
    return torch if isinstance(values, Tensor) else np


def like(values: Array, tensor: Tensor) -> Array:
    """A tensor's numbers in the kind of ``values``, in the same memory.

    Raises:
        ValueError: they are not on the CPU, where ``values`` are.
    """
    if isinstance(values, Tensor):
        return tensor
    if not tensor.is_cpu:
        raise ValueError(
            f"state is {tuple(tensor.shape)} {tensor.dtype} on {tensor.device}, expected it on the CPU, where the"
            " gradients are"
        )
    return tensor.numpy()


def to_tensor(values: Array) -> Tensor:
    """The same numbers as a tensor, in the same memory."""
    return values if isinstance(values, Tensor) else torch.from_numpy(values)


def detached(values: Array) -> Array:
    """The same numbers, without the graph that a tensor may be part of."""
    return values.detach() if isinstance(values, Tensor) else values


def floats(values: Array) -> Array:
    """In float64."""
    return values.double() if isinstance(values, Tensor) else np.asarray(values, dtype=np.float64)


def at_least(values: Array, bound: float) -> Array:
    """Each value, or the bound where that is larger."""
    return values.clamp(min=bound) if isinstance(values, Tensor) else np.maximum(values, bound)


def at_most(values: Array, bound: float) -> Array:
    """Each value, or the bound where that is smaller."""
    return values.clamp(max=bound) if isinstance(values, Tensor) else np.minimum(values, bound)


def norms_of(gramian: Array) -> Array:
    """(M,) norms of the gradients with this (M, M) Gramian."""
    return namespace(gramian).sqrt(at_least(gramian.diagonal(), 0))


def ratio(dividend: Array, divisor: Array) -> Array:
    """The quotient; 0 where there is nothing to divide by, or the quotient is beyond float64."""
    quotient = dividend / divisor
    return namespace(quotient).where(quotient - quotient == 0, quotient, 0.0)


def ascending(values: Array) -> Array:
    """(M,) sorted."""
    return values.sort().values if isinstance(values, Tensor) else np.sort(values)


def counts(values: Array) -> Array:
    """1, ..., M, for (M,) values."""
    if isinstance(values, Tensor):
        return _counts_on_device(len(values), values.dtype, values.device)
    return np.arange(1, len(values) + 1)


@cache  # never dropped: CUDA graphs read it
def _counts_on_device(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.arange(1, size + 1, dtype=dtype, device=device)


def identity_like(gramian: Array) -> Array:
    """(M, M)"""
    xp = namespace(gramian)
    return xp.diag(xp.ones_like(gramian[0]))


def seen_on_host(condition: Array) -> bool:
    """Whether a condition holds, and the host can read that: then iterations may end early."""
    return not isinstance(condition, Tensor) and bool(condition)


def solve(systems: Array, sides: Array) -> tuple[Array, Array]:
    """Solutions of linear systems, and 0 for each that has one: without an error for those that have none."""
    solutions, failed = torch.linalg.solve_ex(to_tensor(systems), to_tensor(sides))
    return like(systems, solutions), like(systems, failed)


def in_kind_of(values: Array, others: Array) -> Array:
    """Other numbers in the kind of ``values``, and where they are."""
    if isinstance(values, Tensor):
        return to_tensor(others).to(values.device)
    return others.cpu().numpy() if isinstance(others, Tensor) else others
