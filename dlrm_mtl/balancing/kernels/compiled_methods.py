"""Steps of methods in C. In a training step, whose other code fills the caches of a CPU, the first use of each NumPy
function takes many times as long as its arithmetic on M numbers."""

import ctypes
import math
from functools import cache, lru_cache
from typing import Any

import numpy as np
from torch import nn

from dlrm_mtl.balancing.algebra.arrays import Array
from dlrm_mtl.balancing.kernels.c_structures import MAX_TASKS, MultiBalanceStep
from dlrm_mtl.balancing.kernels.compiled import c_library

METHODS = "dlrm_mtl.balancing.methods"
MULTIBALANCE = (f"{METHODS}.multibalance.MultiBalance", f"{METHODS}.recommended.MultiBalanceRecommended")
"""The classes whose steps are compiled; a subclass may override anything."""


def compiled_coefficients(method: nn.Module, gramian: Array) -> tuple[Array, dict[str, Array]] | None:
    """What ``method.coefficients`` returns for a NumPy array; None where the method must be asked: it is of another
    class, an option is a function, there are more than MAX_TASKS tasks, its state is not on the CPU, or there are no
    compiled functions."""
    kind: type = type(method)
    if not _is_multibalance(kind):
        return None
    options: Any = method
    library = _library()
    state = (options.prior, options.weights, options.norms)
    computable = (
        isinstance(options.beta, (int, float))
        and len(gramian) <= MAX_TASKS
        and gramian.flags.c_contiguous
        and all(values.is_cpu for values in state)
    )
    if library is None or not computable:
        return None
    coefficients, weights, norms = np.empty((3, len(gramian)))
    step = MultiBalanceStep(
        len(gramian),
        options.direction == "cosine",
        options.beta,
        options.rho,
        options.gamma,
        options.prior_in_direction,
        math.inf if options.max_rescale is None else options.max_rescale,
        options._divisor,
        *(values.data_ptr() for values in state),
        weights.ctypes.data,
        norms.ctypes.data,
    )
    library.multibalance_coefficients(step, gramian.ctypes.data, coefficients.ctypes.data)
    return coefficients, {"weights": weights, "norms": norms}


@cache
def _is_multibalance(kind: type) -> bool:
    return f"{kind.__module__}.{kind.__qualname__}" in MULTIBALANCE


@lru_cache
def _library() -> ctypes.CDLL | None:
    library = c_library()
    if library is not None:
        library.multibalance_coefficients.argtypes = [ctypes.POINTER(MultiBalanceStep), *[ctypes.c_void_p] * 2]
        library.multibalance_coefficients.restype = None
    return library
