"""Stages of a method's step, computed with M values: by NumPy, by operations on tensors, or by a CUDA graph."""

from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from dlrm_mtl.balancing.kernels.cuda_graphs import CapturedStages, may_be_captured
from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.whole_gradients import WholeGradients

Result = TypeVar("Result")


def compute(
    stage: Callable[..., Result], balancer: Balancer, captured: CapturedStages, *values: Any, **options: Any
) -> Result:
    """``stage(*values, balancer=balancer, **options)``: on a CPU with NumPy; on a GPU with tensors, by a CUDA graph
    where it may be replayed. The next step may then overwrite the result."""
    if not may_be_captured(balancer.step) or not may_be_replayed(balancer):
        with np.errstate(all="ignore"):  # values that are not finite are handled
            return stage(*values, balancer=balancer, **options)
    options = {"balancer": balancer, **options}
    return captured(stage, values, options, _state_of(balancer), _options_of(balancer))


def may_be_replayed(balancer: Balancer) -> bool:
    """Whether a CUDA graph may replay a method's step: the method is portable, functions among its options depend on
    their arguments alone, and its classes have not changed since this was first called for them."""
    kind: type = type(balancer)
    functions = [value for value in vars(balancer).values() if callable(value)]
    return (
        balancer.is_portable
        and all(isinstance(value, FunctionType) and value.__closure__ is None for value in functions)
        and all(vars(base) == attributes for base, attributes in _first_attributes(kind))
    )


@cache
def _first_attributes(kind: type) -> list[tuple[type, dict[str, Any]]]:
    """A class of methods and its bases, each with its attributes at the first call."""
    return [(base, dict(vars(base))) for base in kind.__mro__ if issubclass(base, WholeGradients)]


def _state_of(balancer: Balancer) -> tuple[Tensor, ...]:
    """All buffers of the method itself, in a fixed order."""
    return tuple(buffer for buffer in balancer._buffers.values() if buffer is not None)


def _options_of(balancer: Balancer) -> tuple[int | float | str | FunctionType, ...]:
    """Values of all attributes that are numbers, strings or functions, in a fixed order."""
    return tuple(value for value in vars(balancer).values() if isinstance(value, (int, float, str, FunctionType)))
