"""The two operations on whole gradients in C, for a CPU: each reads every gradient from memory once.

Compiled when a process first needs them, for the processor that it runs on. Where there is no
C compiler, plain PyTorch does without.
"""

import ctypes
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

SOURCE = Path(__file__).with_suffix(".c")

# No -ffast-math: what is not finite must stay so, and linking with it changes the arithmetic of the whole process.
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math")

MAX_TASKS = 16
"""As in the source."""

MIN_PRODUCTS = 1 << 18
"""Elements of one gradient times pairs of gradients; where there are fewer, there is little to gain."""

DTYPES = (torch.float32, torch.bfloat16)
"""In the order of the source's numbers for them."""


class CpuKernels:
    """The compiled functions."""

    def __init__(self, library: ctypes.CDLL) -> None:
        pointer, number, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_long
        self._products = library.gradient_products
        self._products.argtypes = [pointer, number, size, number, number, pointer]
        self._products.restype = None
        self._weighted_sum = library.weighted_sum
        self._weighted_sum.argtypes = [pointer, pointer, number, size, number, number, pointer]
        self._weighted_sum.restype = None

    def products(self, gradients: Sequence[Tensor]) -> list[float]:
        """Inner products of every pair i <= j of M gradients, in the order of nested loops."""
        num_tasks = len(gradients)
        products = (ctypes.c_double * (num_tasks * (num_tasks + 1) // 2))()
        self._products(_addresses(gradients), num_tasks, *_form(gradients[0]), products)
        return list(products)

    def weighted_sum(self, gradients: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """Sum over m of weights[m] * gradients[m], in the gradients' shape and dtype, accumulated in float32."""
        combined = torch.empty_like(gradients[0])
        values = (ctypes.c_float * len(weights))(*weights)
        self._weighted_sum(_addresses(gradients), values, len(gradients), *_form(combined), combined.data_ptr())
        return combined


def cpu_kernels(gradients: Sequence[Tensor]) -> CpuKernels | None:
    """The kernels, where they suit these gradients: else plain PyTorch is used."""
    first, num_tasks = gradients[0], len(gradients)
    suits = (
        first.numel() * num_tasks * (num_tasks + 1) // 2 >= MIN_PRODUCTS
        and num_tasks <= MAX_TASKS
        and first.dtype in DTYPES
        and all(type(gradient) is Tensor and gradient.is_contiguous() for gradient in gradients)
    )
    return _build() if suits else None


def _addresses(gradients: Sequence[Tensor]) -> "ctypes.Array[ctypes.c_void_p]":
    return (ctypes.c_void_p * len(gradients))(*[gradient.data_ptr() for gradient in gradients])


def _form(gradient: Tensor) -> tuple[int, int, int]:
    """Elements, number of the dtype, threads."""
    return gradient.numel(), DTYPES.index(gradient.dtype), torch.get_num_threads()


@lru_cache
def _build() -> CpuKernels | None:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        return None
    try:
        return _compile(compiler, "-fopenmp")
    except (OSError, subprocess.CalledProcessError):
        pass
    try:
        return _compile(compiler)  # for one thread
    except (OSError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[0]
        warnings.warn(f"gradients are balanced by plain PyTorch, more slowly: {compiler}: {reason}", stacklevel=2)
        return None


def _compile(compiler: str, *flags: str) -> CpuKernels:
    with tempfile.TemporaryDirectory(prefix="dlrm-mtl-") as directory:
        library = Path(directory) / "cpu_kernels.so"
        command = [compiler, *FLAGS, *flags, "-fPIC", "-shared", "-o", str(library), str(SOURCE)]
        subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        return CpuKernels(ctypes.CDLL(str(library)))
