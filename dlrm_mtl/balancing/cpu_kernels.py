"""The two operations on whole gradients in C, for a CPU: each reads every gradient from memory once."""

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from dlrm_mtl.balancing.c_library import build_library

# No -ffast-math: what is not finite must stay so, and linking with it changes the arithmetic of the whole process.
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math")

MAX_TASKS = 16
"""As in the source."""

MIN_PRODUCTS = 1 << 18
"""Elements of one gradient times pairs of gradients; where there are fewer, there is little to gain."""

DTYPES = (torch.float32, torch.bfloat16)
"""In the order of the source's numbers for them."""


class CpuKernels:
    """The compiled functions for M gradients."""

    def __init__(self, library: ctypes.CDLL, gradients: Sequence[Tensor]) -> None:
        self._library = library
        self._gradients = gradients
        self._addresses = (ctypes.c_void_p * len(gradients))(*[gradient.data_ptr() for gradient in gradients])

    def gramian(self) -> list[list[float]]:
        """All inner products, (M, M)."""
        size = len(self._gradients)
        values = (ctypes.c_double * (size * size))()
        self._library.gradient_gramian(self._addresses, size, *self._form(), values)
        return [values[start : start + size] for start in range(0, size * size, size)]

    def weighted_sum(self, weights: Sequence[float]) -> Tensor:
        """Sum over m of weights[m] * gradients[m], in the gradients' shape and dtype, accumulated in float32."""
        combined = torch.empty_like(self._gradients[0])
        values = (ctypes.c_float * len(weights))(*weights)
        self._library.weighted_sum(self._addresses, values, len(weights), *self._form(), combined.data_ptr())
        return combined

    def _form(self) -> tuple[int, int, int]:
        """Elements, number of the dtype, threads."""
        first = self._gradients[0]
        return first.numel(), DTYPES.index(first.dtype), torch.get_num_threads()


def cpu_kernels(gradients: Sequence[Tensor]) -> CpuKernels | None:
    """The kernels, where they suit these gradients: else plain PyTorch is used."""
    first, num_tasks = gradients[0], len(gradients)
    suits = (
        first.numel() * num_tasks * (num_tasks + 1) // 2 >= MIN_PRODUCTS
        and num_tasks <= MAX_TASKS
        and first.dtype in DTYPES
        and all(type(gradient) is Tensor and gradient.is_contiguous() for gradient in gradients)
    )
    library = _build() if suits else None
    return None if library is None else CpuKernels(library, gradients)


@lru_cache
def _build() -> ctypes.CDLL | None:
    # Without OpenMP, for one thread.
    library = build_library(Path(__file__).with_suffix(".c"), (*FLAGS, "-fopenmp"), FLAGS)
    if library is not None:
        pointer, number, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_long
        library.gradient_gramian.argtypes = [pointer, number, size, number, number, pointer]
        library.gradient_gramian.restype = None
        library.weighted_sum.argtypes = [pointer, pointer, number, size, number, number, pointer]
        library.weighted_sum.restype = None
    return library
