"""Whether values are finite: a tensor on their device, or a bool where the host can read them."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.compiler import is_compiling
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from dlrm_mtl.balancing.algebra.arrays import Array, namespace

Truth = Tensor | bool
"""A 0-d bool tensor or a bool; ``&`` combines either."""

FEW_VALUES = 256
"""Up to this many are checked one by one."""


def readable_on_host(values: Tensor) -> bool:
    """Whether Python may branch on the values without waiting: they are on a CPU, and no operations are traced."""
    return values.is_cpu and not is_in_torch_dispatch_mode() and not is_compiling()


def readable(values: Tensor) -> Array:
    """The values as a NumPy array, where the host can read them."""
    return values.numpy() if readable_on_host(values) else values


def are_finite(values: Array) -> Array:
    """As ``isfinite``, but in two kernels instead of four for tensors."""
    if not isinstance(values, Tensor):
        return np.isfinite(values)
    return values - values == 0  # infinity minus infinity is NaN


def all_finite(values: Array) -> Truth:
    """Whether no value is NaN or infinite."""
    if isinstance(values, Tensor) and not readable_on_host(values):
        return are_finite(values).all()
    each = values.reshape(-1)
    return all(map(math.isfinite, each.tolist())) if len(each) <= FEW_VALUES else bool(are_finite(each).all())


def none_holds(conditions: Array) -> Truth:
    """Whether all conditions are false."""
    return ~conditions.any() if isinstance(conditions, Tensor) else not conditions.any()


def choose(condition: Truth, values: Array, fallback: Array | float) -> Array:
    """``where(condition, values, fallback)``; the values themselves if the host reads that the condition holds."""
    if condition is True:
        return values
    xp = namespace(values)
    if xp is np:
        return np.where(bool(condition), values, fallback)
    return torch.where(torch.as_tensor(condition, device=values.device), values, fallback)


def count(counter: Tensor, condition: Truth) -> None:
    """Adds 1 to a 0-d counter, if the condition holds."""
    if isinstance(condition, Tensor):
        counter.add_(condition)
    elif readable_on_host(counter):
        counter.numpy()[...] += condition
    else:
        counter.add_(int(condition))


def assign_where(condition: Truth, target: Tensor, values: Array) -> None:
    """Writes values of the same shape into ``target`` if the condition holds."""
    if isinstance(values, np.ndarray):
        if condition:
            np.copyto(target.numpy(), values, casting="same_kind")
    elif condition is True:
        target.copy_(values)
    elif condition is not False:
        torch.where(condition, values, target, out=target)
