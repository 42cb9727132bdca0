"""Checks of the options of methods."""

import math
import reprlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def shown(value: object) -> str:
    """A value for a message: its repr, shortened in the middle if it is long."""
    writer = reprlib.Repr()
    writer.maxstring = writer.maxother = writer.maxlong = 80
    return writer.repr(value)


def is_number(value: object) -> bool:
    """Whether a value is a finite int or float."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def require_option(method: object, name: str, value: object, valid: bool, expected: str) -> None:
    """Raises a ValueError that names method, option, value and what was expected, unless ``valid``."""
    if not valid:
        raise option_error(method, name, value, expected)


def option_error(method: object, name: str, value: object, expected: str) -> ValueError:
    """Names method, option, value and what was expected."""
    return ValueError(f"{type(method).__name__}: {name} is {shown(value)}, expected {expected}")


def require_seed(method: object, seed: object) -> None:
    """Raises a ValueError unless the seed is an integer in [0, 2^31)."""
    valid = isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 1 << 31
    require_option(method, "seed", seed, valid, "an integer in [0, 2^31)")


def uniform_weights(num_tasks: int) -> Tensor:
    """(M,) float64, 1/M each, on the CPU."""
    return torch.full((num_tasks,), 1 / num_tasks, dtype=torch.float64, device="cpu")


PerTask = Sequence[float] | Mapping[str, float]
"""A number for each task: M of them, or by names, which may be of further tasks."""


def task_vector(values: PerTask, task_names: Sequence[str]) -> Tensor | None:
    """An option with one number per task, as a float64 vector (M,) on the CPU; None if it is anything else, or lacks a
    task."""
    try:
        if isinstance(values, Mapping):
            values = [values[name] for name in task_names]
        vector = torch.tensor(values, dtype=torch.float64, device="cpu").reshape(-1)
    except (KeyError, TypeError, ValueError):
        return None
    return vector if len(vector) == len(task_names) else None


def prior_option(method: object, task_names: Sequence[str], prior: PerTask | None) -> Tensor:
    """(M,) float64 prior weights on the simplex; uniform by default. Those by name are divided by their sum.

    Raises:
        ValueError: not M non-negative numbers that sum to 1, or not a number for each task by its name.
    """
    num_tasks = len(task_names)
    if prior is None:
        return uniform_weights(num_tasks)
    values = task_vector(prior, task_names)
    if values is not None and (values >= 0).all():
        total = float(values.sum())
        if isinstance(prior, Mapping) and 0 < total < math.inf:
            return values / total
        if math.isclose(total, 1.0):
            return values
    raise option_error(method, "prior", prior, f"{num_tasks} non-negative numbers that sum to 1, or one for each task")
