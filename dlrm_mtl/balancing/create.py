"""Balancing methods by name. A new method is one file and one line here."""

import inspect
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from dlrm_mtl.balancing.balancer import Balancer
from dlrm_mtl.balancing.multibalance import MultiBalance
from dlrm_mtl.balancing.static import Mean, Static, Sum

METHODS: Mapping[str, type[Balancer]] = MappingProxyType(
    {
        "mean": Mean,
        "sum": Sum,
        "static": Static,
        "multibalance": MultiBalance,
    }
)


def available_balancers() -> tuple[str, ...]:
    """Names that :func:`create_balancer` takes."""
    return tuple(METHODS)


def balancer_options(name: str) -> dict[str, Any]:
    """Options of a method and their defaults.

    Raises:
        ValueError: no such method; the message lists them.
    """
    if name not in METHODS:
        raise ValueError(f"unknown balancer {name!r}, expected one of {', '.join(available_balancers())}")
    parameters = inspect.signature(METHODS[name].__init__).parameters
    return {
        key: parameter.default
        for key, parameter in parameters.items()
        if key not in ("self", "num_tasks", "task_names")
    }


def create_balancer(name: str, num_tasks: int, *, task_names: Sequence[str] | None = None, **options: Any) -> Balancer:
    """Creates a balancing method by name.

    Args:
        name: one of :func:`available_balancers`.
        num_tasks: M.
        task_names: names under which the state of each task is stored.
        options: see the method's class.

    Raises:
        ValueError: unknown name or option (the message lists the right ones), or a value out of range.
    """
    known = balancer_options(name)
    unknown = sorted(set(options) - set(known))
    if unknown:
        expected = ", ".join(f"{key}={value!r}" for key, value in known.items()) or "none"
        raise ValueError(f"balancer {name!r} has no option {unknown[0]!r}; its options and defaults: {expected}")
    return METHODS[name](num_tasks, task_names=task_names, **options)
