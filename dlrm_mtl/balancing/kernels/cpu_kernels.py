"""The two operations on whole gradients in C, for a CPU: each reads every gradient from memory once."""

import ctypes
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dlrm_mtl.balancing.kernels.c_structures import DTYPES, MAX_TASKS, Gradients
from dlrm_mtl.balancing.kernels.compiled import c_library


class CpuKernels:
    """The compiled functions for M gradients.

    Args:
        gradients: see :meth:`Gradients.of`.
        instruction_set: one that this processor has.
    """

    def __init__(self, library: ctypes.CDLL, gradients: Sequence[Tensor], instruction_set: int) -> None:
        self._library = library
        self._tensors = gradients
        self._gradients = Gradients.of(gradients, instruction_set)

    def gramian(self) -> "npt.NDArray[np.float64]":
        """All inner products, (M, M)."""
        size = len(self._tensors)
        products = np.empty((size, size))
        self._library.gradient_gramian(self._gradients, products.ctypes.data)
        return products

    def weighted_sum(self, weights: Sequence[float]) -> tuple[Tensor, bool]:
        """Sum over m of weights[m] * gradients[m], in the gradients' shape and dtype, accumulated in float32; and
        whether all of it is finite."""
        combined = torch.empty_like(self._tensors[0])
        factors = (ctypes.c_float * len(weights))(*weights)
        return combined, bool(self._library.weighted_sum(self._gradients, factors, combined.data_ptr()))


def cpu_kernels(gradients: Sequence[Tensor], instruction_set: int | None = None) -> CpuKernels | None:
    """The kernels for these gradients; None where plain PyTorch has to do: more than MAX_TASKS gradients, other
    dtypes, a layout that is not contiguous, no compiled functions.

    Args:
        instruction_set: by default the widest that this processor has.
    """
    supported = (
        len(gradients) <= MAX_TASKS
        and gradients[0].dtype in DTYPES
        and all(type(gradient) is Tensor and gradient.is_contiguous() for gradient in gradients)
    )
    library, widest = _library() if supported else (None, 0)
    if library is None:
        return None
    return CpuKernels(library, gradients, widest if instruction_set is None else instruction_set)


@lru_cache
def _library() -> tuple[ctypes.CDLL | None, int]:
    """The functions, and the widest instruction set of this processor."""
    library = c_library()
    if library is None:
        return None, 0
    declare_types(library)
    return library, library.widest_instruction_set()


def declare_types(library: ctypes.CDLL) -> None:
    """Of the functions that are used here."""
    gradients, pointer = ctypes.POINTER(Gradients), ctypes.c_void_p
    library.gradient_gramian.argtypes = [gradients, pointer]
    library.gradient_gramian.restype = None
    library.weighted_sum.argtypes = [gradients, pointer, pointer]
    library.weighted_sum.restype = ctypes.c_int
    library.widest_instruction_set.restype = ctypes.c_int
