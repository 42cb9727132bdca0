"""A step of the layer in Python's floats, for a CPU: there, operations on tensors of M numbers are most of what
balancing costs, above all in training, where the caches hold other code each time.

The same decisions as those of :class:`BalancingLayer`'s stages, in the same order.
"""

import math
from collections.abc import Callable, Sequence
from operator import mul
from typing import NamedTuple, TypeGuard

import torch
from torch import Tensor

from dlrm_mtl.balancing.balancer import BOUNDED, Balancer
from dlrm_mtl.balancing.finite import host_may_look
from dlrm_mtl.balancing.gramian import HostGradients
from dlrm_mtl.balancing.record import FloatRecord
from dlrm_mtl.balancing.reduction import Rows


class FloatDecision(NamedTuple):
    """What a step's statistics lead to."""

    record: FloatRecord
    applied: list[float]
    """The coefficients, or NaN where the step is not finite."""
    broken: list[bool]
    """By task, whether something is not finite; empty, if nothing is."""


def suit_floats(gradients: Sequence[Tensor | None], balancer: Balancer) -> TypeGuard[Sequence[Tensor]]:
    """Whether a step may be taken in floats: on a CPU, by a method that has such steps, if no gradient is missing."""
    first = gradients[0]
    return (
        first is not None
        and host_may_look(first)
        and balancer.steps_in_floats
        and (balancer.measures == "nothing" or first.dtype in BOUNDED)
        and all(gradient is not None for gradient in gradients)
    )


def decide_in_floats(
    balancer: Balancer,
    gradients: HostGradients,
    losses: Tensor | None,
    reduce: Callable[[Rows], Rows] | None,
    otherwise: Sequence[float] | None,
) -> FloatDecision:
    """From one rank's gradients to coefficients; advances the method's state. Collective, if ``reduce`` is.

    Args:
        losses: (M,) of this rank, if known.
        reduce: from this rank's Gramian to the one that coefficients come from; None: itself.
        otherwise: coefficients of the step before, if that Gramian is another step's.
    """
    of_losses = [] if losses is None else losses.tolist()
    if balancer.measures == "nothing":
        broken = _broken(of_losses)
        nothing = [[0.0] * balancer.num_tasks for _ in range(balancer.num_tasks)]
        coefficients, task_weights = balancer.step_in_floats(nothing)
        balancer.step.add_(1)
        return FloatDecision(
            FloatRecord(nothing, coefficients, task_weights), _or_nan(coefficients, not broken), broken
        )
    local = gradients.gramian()
    squares = [row[m] for m, row in enumerate(local)]
    broken = _broken(squares, of_losses)
    if broken:
        local = [[math.nan] * len(local) for _ in local]  # its reduction tells every rank
    statistic = local if reduce is None else reduce(local)
    finite = not broken if reduce is None else all(math.isfinite(value) for row in statistic for value in row)
    if finite:
        coefficients, task_weights = balancer.step_in_floats(statistic)
        balancer.step.add_(1)
    else:
        balancer.nonfinite_steps.add_(1)
        coefficients = balancer.initial_coefficients().tolist() if otherwise is None else [*otherwise]
        task_weights = balancer.task_weights().tolist()
    applicable = finite if otherwise is None else not broken
    finite = applicable and _bounded(coefficients, squares, gradients.dtype)
    return FloatDecision(FloatRecord(statistic, coefficients, task_weights), _or_nan(coefficients, finite), broken)


def _broken(first: list[float], second: list[float] | None = None) -> list[bool]:
    """Where a value of either list is not finite; empty, where all are. An empty list is unknown."""
    if all(map(math.isfinite, first)) and (not second or all(map(math.isfinite, second))):
        return []
    pairs = zip(first, second or first, strict=True)
    return [not (math.isfinite(one) and math.isfinite(other)) for one, other in pairs]


def _bounded(coefficients: list[float], squares: list[float], dtype: torch.dtype) -> bool:
    """See :meth:`Balancer.bounded_coefficients`."""
    return sum(map(mul, map(abs, coefficients), map(math.sqrt, squares))) < torch.finfo(dtype).max


def _or_nan(values: list[float], finite: bool) -> list[float]:
    return values if finite else [math.nan] * len(values)
