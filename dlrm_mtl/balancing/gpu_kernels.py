"""Which operations on gradients Triton kernels do."""

import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from types import ModuleType

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from dlrm_mtl.balancing.fused import DTYPES, MAX_TASKS


def gpu_kernels(gradients: Sequence[Tensor]) -> ModuleType | None:
    """``triton_kernels``, where they suit these gradients and somebody sees no operators: else plain PyTorch is used.

    On the current GPU, since that is where kernels are launched; autograd makes a backward pass's GPU the current one.
    """
    first = gradients[0]
    suits = (
        first.is_cuda
        and len(gradients) <= MAX_TASKS
        and first.dtype in DTYPES
        and not torch.compiler.is_compiling()
        and not is_in_torch_dispatch_mode()
        and first.get_device() == torch.cuda.current_device()
        and all(type(gradient) is Tensor for gradient in gradients)
    )
    return _kernels() if suits else None


@lru_cache
def _kernels() -> ModuleType | None:
    if torch.version.cuda is None or importlib.util.find_spec("triton") is None:
        return None
    from dlrm_mtl.balancing import triton_kernels

    return triton_kernels
