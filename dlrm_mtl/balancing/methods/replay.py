"""What a CUDA graph must know of a method, whose step it replays."""

from functools import cache
from types import FunctionType
from typing import Any

from torch import Tensor

from dlrm_mtl.balancing.methods.balancer import Balancer


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
    return [(base, dict(vars(base))) for base in kind.__mro__ if issubclass(base, Balancer)]


def state_of(balancer: Balancer) -> tuple[Tensor, ...]:
    """All buffers of the method itself, in a fixed order."""
    return tuple(buffer for buffer in balancer._buffers.values() if buffer is not None)


def options_of(balancer: Balancer) -> tuple[int | float | str | FunctionType, ...]:
    """Values of all attributes that are numbers, strings or functions, in a fixed order."""
    return tuple(value for value in vars(balancer).values() if isinstance(value, (int, float, str, FunctionType)))
