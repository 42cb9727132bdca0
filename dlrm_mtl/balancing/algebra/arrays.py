"""Arithmetic on M numbers, written once for NumPy and torch.

On a CPU an operation on M numbers takes torch several times as long as NumPy. So methods compute with NumPy arrays
there, and with tensors on other devices. Both have the same operators, and most functions by the same names:
``xp = namespace(statistic)``.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = Any
"""A NumPy array or a tensor; all arrays of a computation are of the same kind."""


def namespace(values: Array) -> Any:
    """``numpy`` or ``torch``, whose functions take ``values``."""
    return torch if isinstance(values, Tensor) else np


def like(values: Array, tensor: Tensor) -> Array:
    """The tensor as an array of the kind of ``values``, in the same memory.

    Raises:
        ValueError: ``values`` is a NumPy array, and the tensor is not on the CPU.
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
    """The values as a tensor, in the same memory."""
    return values if isinstance(values, Tensor) else torch.from_numpy(values)


def detached(values: Array) -> Array:
    """The values without an autograd graph."""
    return values.detach() if isinstance(values, Tensor) else values


def floats(values: Array) -> Array:
    """The values in float64."""
    return values.double() if isinstance(values, Tensor) else np.asarray(values, dtype=np.float64)


def at_least(values: Array, bound: float) -> Array:
    """Each value, raised to the bound where it is smaller."""
    return values.clamp(min=bound) if isinstance(values, Tensor) else np.maximum(values, bound)


def at_most(values: Array, bound: float) -> Array:
    """Each value, lowered to the bound where it is larger."""
    return values.clamp(max=bound) if isinstance(values, Tensor) else np.minimum(values, bound)


def norms_of(gramian: Array) -> Array:
    """(M,) norms of the gradients with this (M, M) Gramian."""
    return namespace(gramian).sqrt(at_least(gramian.diagonal(), 0))


def cosines_of(gramian: Array) -> tuple[Array, Array, Array]:
    """The Gramian of the unit gradients (M, M), their norms (M,), and whether each is not zero (M,). A zero gradient is
    taken as a unit gradient that is orthogonal to the others, of norm 1."""
    xp = namespace(gramian)
    norms = norms_of(gramian)
    active = norms > 0
    norms = xp.where(active, norms, 1.0)
    return gramian / xp.outer(norms, norms) + xp.diag(floats(~active)), norms, active


def ratio(dividend: Array, divisor: Array) -> Array:
    """The quotient; 0 where it is not finite."""
    quotient = dividend / divisor
    if isinstance(quotient, Tensor):
        return torch.where(quotient - quotient == 0, quotient, 0.0)
    return np.where(np.isfinite(quotient), quotient, 0.0)


def ascending(values: Array) -> Array:
    """(M,) values, sorted."""
    return values.sort().values if isinstance(values, Tensor) else np.sort(values)


def descending(values: Array) -> Array:
    """(M,) values, sorted from the largest on."""
    return values.sort(descending=True).values if isinstance(values, Tensor) else np.sort(values)[::-1]


def counts(values: Array) -> Array:
    """1, ..., M, for (M,) values."""
    if isinstance(values, Tensor):
        return _counts_on_device(len(values), values.dtype, values.device)
    return _counts(len(values))


@cache  # kept for good, since CUDA graphs read it
def _counts_on_device(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.arange(1, size + 1, dtype=dtype, device=device)


@cache
def _counts(size: int) -> Array:
    return np.arange(1, size + 1)


def identity_like(gramian: Array) -> Array:
    """(M, M)"""
    xp = namespace(gramian)
    return xp.diag(xp.ones_like(gramian[0]))


def seen_on_host(condition: Array) -> bool:
    """Whether the host can read that a condition holds. Iterations may then end early."""
    return not isinstance(condition, Tensor) and bool(condition)


def solve(systems: Array, sides: Array) -> tuple[Array, Array]:
    """Solutions of linear systems, and a flag for each that is 0 if it was solved. A singular system is no error."""
    solutions, failed = torch.linalg.solve_ex(to_tensor(systems), to_tensor(sides))
    return like(systems, solutions), like(systems, failed)


def in_kind_of(values: Array, others: Array) -> Array:
    """Other values as an array of the kind of ``values``, on the same device."""
    if isinstance(values, Tensor):
        return to_tensor(others).to(values.device)
    return others.cpu().numpy() if isinstance(others, Tensor) else others
