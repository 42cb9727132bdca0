"""What the C functions share with Python: the structures of ``balancing.h``."""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

MAX_TASKS = 16
"""As in the source."""

DTYPES = (torch.float32, torch.bfloat16)
"""In the order of the source's numbers for them."""


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


class Exchange(ctypes.Structure):
    """Memory that ranks share, for messages of up to so many values; it must outlive it."""

    _fields_ = (
        ("memory", ctypes.c_void_p),
        ("capacity", ctypes.c_long),
        ("rank", ctypes.c_int),
        ("ranks", ctypes.c_int),
    )
