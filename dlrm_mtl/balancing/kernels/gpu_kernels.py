"""Where Triton kernels do the operations on gradients."""

import importlib.util
import os
import shutil
from collections.abc import Sequence
from functools import lru_cache
from types import ModuleType

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from dlrm_mtl.balancing.kernels.choice import plain_only

MAX_TASKS = 16
"""With more, the sums of all pairs would not fit into registers."""

DTYPES = (torch.float32, torch.bfloat16, torch.float16)

AMPERE = (8, 0)


def gpu_kernels(gradients: Sequence[Tensor]) -> ModuleType | None:
    """``triton_kernels``; None where plain PyTorch has to do: more than MAX_TASKS gradients, other dtypes, traced
    operators, no Triton.

    Only for gradients on the current GPU, where kernels are launched; autograd makes a backward pass's GPU the current
    one.
    """
    first = gradients[0]
    supported = (
        first.is_cuda
        and len(gradients) <= MAX_TASKS
        and first.dtype in DTYPES
        and not torch.compiler.is_compiling()
        and not is_in_torch_dispatch_mode()
        and first.get_device() == torch.cuda.current_device()
        and all(type(gradient) is Tensor for gradient in gradients)
    )
    return _kernels() if supported else None


@lru_cache
def _kernels() -> ModuleType | None:
    if plain_only() or not _has_triton():
        return None
    from dlrm_mtl.balancing.kernels import triton_kernels

    return triton_kernels


def _has_triton() -> bool:
    """Whether there are Triton, a GPU that it supports, and the C compiler that it needs at run time."""
    compilers = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang"]
    return (
        torch.version.cuda is not None
        and torch.cuda.get_device_capability() >= AMPERE
        and importlib.util.find_spec("triton") is not None
        and any(shutil.which(compiler) for compiler in compilers)
    )
