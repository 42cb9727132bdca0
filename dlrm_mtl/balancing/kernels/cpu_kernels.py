"""The two operations on whole gradients in C, for a CPU: each reads every gradient from memory once."""

import ctypes
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dlrm_mtl.balancing.kernels.c_library import c_library
from dlrm_mtl.balancing.kernels.c_structures import DTYPES, MAX_TASKS, Gradients


class CpuKernels:
    """The compiled functions for M gradients."""

    def __init__(self, library: ctypes.CDLL, gradients: Sequence[Tensor]) -> None:
        self._library = library
        self._tensors = gradients
        self._gradients = Gradients.of(gradients)

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


def cpu_kernels(gradients: Sequence[Tensor]) -> CpuKernels | None:
    """The kernels, where they suit these gradients: else plain PyTorch is used."""
    suits = (
        len(gradients) <= MAX_TASKS
        and gradients[0].dtype in DTYPES
        and all(type(gradient) is Tensor and gradient.is_contiguous() for gradient in gradients)
    )
    library = _library() if suits else None
    return None if library is None else CpuKernels(library, gradients)


@lru_cache
def _library() -> ctypes.CDLL | None:
    library = c_library()
    if library is not None:
        gradients, pointer = ctypes.POINTER(Gradients), ctypes.c_void_p
        library.gradient_gramian.argtypes = [gradients, pointer]
        library.gradient_gramian.restype = None
        library.weighted_sum.argtypes = [gradients, pointer, pointer]
        library.weighted_sum.restype = ctypes.c_int
    return library
