"""What the C functions share with Python: the structures of ``c/balancing.h``."""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

INTERFACE_VERSION = 2
MAX_TASKS = 16
DTYPES = (torch.float32, torch.bfloat16)
INSTRUCTION_SETS = ("baseline", "AVX2", "AVX-512")
"""As in the source; the last two in the order of its numbers for them."""


class Gradients(ctypes.Structure):
    """M gradients, which must outlive it."""

    _fields_ = (
        ("addresses", ctypes.c_void_p * MAX_TASKS),
        ("m", ctypes.c_int),
        ("dtype", ctypes.c_int),
        ("instruction_set", ctypes.c_int),
        ("threads", ctypes.c_int),
        ("n", ctypes.c_long),
    )

    @classmethod
    def of(cls, gradients: Sequence[Tensor], instruction_set: int) -> "Gradients":
        """
        Args:
            gradients: at most MAX_TASKS, contiguous, on a CPU, of one size and of one dtype in DTYPES.
            instruction_set: an index of INSTRUCTION_SETS.
        """
        first = gradients[0]
        addresses = (ctypes.c_void_p * MAX_TASKS)(*[gradient.data_ptr() for gradient in gradients])
        dtype, threads = DTYPES.index(first.dtype), torch.get_num_threads()
        return cls(addresses, len(gradients), dtype, instruction_set, threads, first.numel())


class MultiBalanceStep(ctypes.Structure):
    """Options and state of a step of MultiBalance."""

    _fields_ = (
        ("m", ctypes.c_int),
        ("cosine", ctypes.c_int),
        *((name, ctypes.c_double) for name in ("beta", "rho", "gamma", "prior_in_direction", "max_rescale", "divisor")),
        *((name, ctypes.c_void_p) for name in ("prior", "weights", "norms", "new_weights", "new_norms")),
    )


class Exchange(ctypes.Structure):
    """Memory that ranks share, for messages of up to ``capacity`` values; the memory must outlive it."""

    _fields_ = (
        ("memory", ctypes.c_void_p),
        ("capacity", ctypes.c_long),
        ("rank", ctypes.c_int),
        ("ranks", ctypes.c_int),
    )
