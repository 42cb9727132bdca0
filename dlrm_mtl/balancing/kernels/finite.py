"""Whether values are finite: as a tensor on their device, or as a bool where the host may look."""

import math

import torch
from torch import Tensor
from torch.compiler import is_compiling
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

Truth = Tensor | bool
"""Of one question: 0-d bool on the device, or a bool. ``&`` joins both."""

FEW_VALUES = 256
"""So many are looked at one by one."""


def host_may_look(values: Tensor) -> bool:
    """Whether values may decide what is done: on a CPU, where nobody traces the operations.

    A CPU spends more on an operation of M numbers than on the numbers, most of all in training, where the caches are
    full of other things. So there the host looks, and leaves out what this step does not need. Elsewhere it would have
    to wait for the device.
    """
    return values.is_cpu and not is_in_torch_dispatch_mode() and not is_compiling()


def are_finite(values: Tensor) -> Tensor:
    """As ``torch.isfinite``, in two kernels instead of four: in a step's few small tensors, kernels are what costs."""
    return values - values == 0  # infinity less infinity is NaN


def all_finite(values: Tensor) -> Truth:
    """Whether no value is NaN or infinite."""
    if not host_may_look(values):
        return are_finite(values).all()
    if values.numel() <= FEW_VALUES:
        return all(map(math.isfinite, values.reshape(-1).tolist()))
    return bool(are_finite(values).all())


def sum_of_elements(values: Tensor) -> Tensor:
    """0-d: the cheapest look at every element. Not in a narrow dtype, which would overflow where no element does."""
    return values.sum(dtype=torch.promote_types(values.dtype, torch.float32))


def choose(condition: Truth, values: Tensor, otherwise: Tensor | float) -> Tensor:
    """``torch.where``; where the host knows that it is, ``values`` themselves."""
    if condition is True:
        return values
    return torch.where(torch.as_tensor(condition, device=values.device), values, otherwise)


def assign_where(condition: Truth, target: Tensor, values: Tensor) -> None:
    """Writes values of the same shape into ``target``, or leaves it as it is."""
    if condition is True:
        target.copy_(values)
    elif condition is not False:
        torch.where(condition, values, target, out=target)
