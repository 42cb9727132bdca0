"""What the C functions share with Python: the structures of ``balancing.h``."""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

MAX_TASKS = 16
"""As in the source."""

DTYPES = (torch.float32, torch.bfloat16)
"""In the order of the source's numbers for them."""

FIXED_WEIGHTS, MULTIBALANCE = range(2)
"""Kinds of methods."""


class Gradients(ctypes.Structure):
    """M gradients; they must outlive it."""

    _fields_ = (
        ("addresses", ctypes.c_void_p * MAX_TASKS),
        ("m", ctypes.c_int),
        ("dtype", ctypes.c_int),
        ("threads", ctypes.c_int),
        ("n", ctypes.c_long),
    )

    @classmethod
    def of(cls, gradients: Sequence[Tensor]) -> "Gradients":
        """Of at most MAX_TASKS contiguous ones on a CPU, of one size and of a dtype in DTYPES."""
        first = gradients[0]
        addresses = (ctypes.c_void_p * MAX_TASKS)(*[gradient.data_ptr() for gradient in gradients])
        return cls(addresses, len(gradients), DTYPES.index(first.dtype), torch.get_num_threads(), first.numel())


class Method(ctypes.Structure):
    """State and options of a method; they must outlive it. All but the weights are MultiBalance's."""

    _fields_ = (
        ("kind", ctypes.c_int),
        ("cosine", ctypes.c_int),
        ("weights", ctypes.c_void_p),
        ("averages", ctypes.c_void_p),
        ("prior", ctypes.c_void_p),
        ("beta", ctypes.c_double),
        ("rho", ctypes.c_double),
        ("gamma", ctypes.c_double),
        ("prior_in_direction", ctypes.c_double),
        ("max_rescale", ctypes.c_double),
        ("divisor", ctypes.c_double),
    )


class Exchange(ctypes.Structure):
    """Memory that ranks share, for messages of up to so many values; it must outlive it."""

    _fields_ = (
        ("memory", ctypes.c_void_p),
        ("capacity", ctypes.c_long),
        ("rank", ctypes.c_int),
        ("ranks", ctypes.c_int),
    )


def addresses_of_state(state: Sequence[Tensor], num_tasks: int) -> list[int] | None:
    """Of a method's vectors, (M,) float64 each; None, if somebody gave it others.

    Raises:
        ValueError: a vector that is not on a CPU.
    """
    for values in state:
        if not values.is_cpu:
            raise ValueError(
                f"state is {tuple(values.shape)} {values.dtype} on {values.device}, expected ({num_tasks},) contiguous"
                " torch.float64 on the CPU, where the gradients are"
            )
        if values.dtype != torch.float64 or values.shape != (num_tasks,) or not values.is_contiguous():
            return None
    return [values.data_ptr() for values in state]
