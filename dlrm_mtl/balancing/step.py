"""The parts of a step that work on M numbers: what a rank's gradients say, and what is decided by it.

NumPy computes them where the host can read values. On a GPU they are operations on tensors, which CUDA graphs replay;
what they return, the next step may overwrite.
"""

from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from dlrm_mtl.balancing.algebra.arrays import Array, like, namespace
from dlrm_mtl.balancing.algebra.finite import Truth, all_finite, are_finite, choose, readable_on_host
from dlrm_mtl.balancing.kernels.cuda_graphs import CapturedStages, may_be_captured
from dlrm_mtl.balancing.kernels.empty_tasks import zero_where_empty
from dlrm_mtl.balancing.kernels.gramian import gramian_of
from dlrm_mtl.balancing.methods.balancer import Balancer, adds_up_gradients

Result = TypeVar("Result")

LARGEST = {dtype: torch.finfo(dtype).max for dtype in (torch.float32, torch.bfloat16, torch.float64)}
"""Of the dtypes in which a balanced gradient is finite where coefficients times norms are. Not float16: it ends where
the norm of scaled gradients may well be."""


class Measurement(NamedTuple):
    """What one rank knows of its rows."""

    statistic: Array
    """Gramian or pooled gradients, float64; NaN if a task is not finite: its reduction tells every rank. Zeros if
    nothing is measured."""
    losses: Array | None
    """(M,) mean losses, float64, with 0 for tasks without a row."""
    finite: Truth
    """Whether every task is."""
    broken: Array | None
    """(M,) bool, tasks of which something is not finite; None: none."""


class Source(NamedTuple):
    """What a step's coefficients come from."""

    statistic: Array
    losses: Array | None
    fallback: Array | None
    """(M,) coefficients of the step before, if the statistic is that step's."""


class Decision(NamedTuple):
    """What a source leads to."""

    statistic: Array
    coefficients: Array
    task_weights: Array
    applied: Array
    """The coefficients; NaN where the step is known not to be finite."""
    finite: Truth | None
    """Whether it is, as far as this rank knows; the balanced gradient is then to be looked at, too. None where norms
    bound it, so that ``applied`` says it."""


class Steps:
    """See above.

    Args:
        balancer: whose state :meth:`decide` advances.
    """

    def __init__(self, balancer: Balancer) -> None:
        self._balancer = balancer
        self._captured = CapturedStages()

    def bounded_in(self, dtypes: set[torch.dtype]) -> torch.dtype | None:
        """The dtype, among those of the gradients, in which norms bound every element of the balanced gradient, so that
        nobody needs to look at it; None where they do not."""
        bounded = self._balancer.measures == "gramian" and adds_up_gradients(self._balancer)
        if not bounded or not dtypes <= LARGEST.keys():
            return None
        return min(dtypes, key=LARGEST.__getitem__, default=torch.float64)

    def measurement(self, measured: Array | None, losses: Array | None, silent: Array | None) -> Measurement:
        """
        Args:
            measured: what :func:`inner_products`, or the method's own measure, returned; None if nothing is measured.
            losses: (M,) of this rank, float64, if they were handed over.
            silent: (M,) bool, tasks without a gradient, where ``measured`` does not say it.
        """
        return self._run(self._measurement, measured, losses, silent)

    def decide(self, measurement: Measurement, source: Source, bounded_in: torch.dtype | None) -> Decision:
        """Advances the method's state.

        Args:
            measurement: this step's.
            bounded_in: see :meth:`bounded_in`.
        """
        finite = None if measurement.finite is True else measurement.finite
        return self._run(self._decide, measurement.statistic, finite, *source, bounded_in=bounded_in)

    def repeat(self, measurement: Measurement, decision: Decision, bounded_in: torch.dtype | None) -> Decision:
        """A decision for the gradients of another measurement."""
        finite = None if measurement.finite is True else measurement.finite
        decided = decision.statistic, decision.coefficients
        return self._run(self._repeat, measurement.statistic, finite, *decided, bounded_in=bounded_in)

    def initial(self, measurement: Measurement) -> Decision:
        """What is applied before there is any statistic to decide by."""
        statistic = namespace(measurement.statistic).zeros_like(measurement.statistic)
        coefficients = 1.0 * like(statistic, self._balancer.initial_coefficients())
        return Decision(statistic, coefficients, coefficients, coefficients, True)

    def _run(self, stage: Callable[..., Result], *inputs: Any, **options: Any) -> Result:
        balancer = self._balancer
        if not may_be_captured(balancer.step) or not may_be_replayed(balancer):
            with np.errstate(all="ignore"):  # what is not finite is found and dealt with
                return stage(*inputs, **options)
        return self._captured(stage, inputs, options, _state(balancer), _options(balancer))

    def _measurement(self, measured: Array | None, losses: Array | None, silent: Array | None) -> Measurement:
        balancer = self._balancer
        of_tasks = None
        if measured is None:
            statistic = _zeros(balancer.num_tasks, balancer.step)
        else:
            statistic = gramian_of(measured, balancer.num_tasks)
            of_tasks = statistic.sum(axis=1) if balancer.measures == "pooled" else statistic.diagonal()
        if losses is not None and all_finite(losses) is not True:
            silent = of_tasks == 0 if silent is None and of_tasks is not None else silent
            losses = losses if silent is None else zero_where_empty(losses, silent)
        broken = _broken(losses, of_tasks)
        finite: Truth = True if broken is None else ~broken.any()
        if broken is not None and (measured is not None or balancer.needs_losses):
            statistic = choose(finite, statistic, torch.nan)
        if isinstance(losses, Tensor) and silent is None and of_tasks is None:
            # Whether a task with a NaN loss has diverged, or has no row, is left to its gradient: NaN is passed on.
            finite = ~losses.isinf().any()
        return Measurement(statistic, losses, finite, broken)

    def _decide(
        self,
        measured: Array,
        measured_finite: Tensor | None,
        statistic: Array,
        losses: Array | None,
        fallback: Array | None,
        bounded_in: torch.dtype | None,
    ) -> Decision:
        finite = all_finite(statistic)
        coefficients = self._balancer.update(statistic, losses, fallback, finite)
        if fallback is not None or self._balancer.measures == "nothing":
            finite = True if measured_finite is None else measured_finite
        return self._decision(measured, finite, statistic, coefficients, bounded_in)

    def _repeat(
        self,
        measured: Array,
        measured_finite: Tensor | None,
        statistic: Array,
        coefficients: Array,
        bounded_in: torch.dtype | None,
    ) -> Decision:
        finite = True if measured_finite is None else measured_finite
        return self._decision(measured, finite, statistic, coefficients, bounded_in)

    def _decision(
        self, measured: Array, finite: Truth, statistic: Array, coefficients: Array, bounded_in: torch.dtype | None
    ) -> Decision:
        weights = 1.0 * like(statistic, self._balancer.task_weights())
        if bounded_in is None:
            return Decision(statistic, coefficients, weights, coefficients, finite)
        applied = bounded_coefficients(coefficients, measured, finite, bounded_in)
        return Decision(statistic, coefficients, weights, applied, None)


def bounded_coefficients(coefficients: Array, gramian: Array, finite: Truth, dtype: torch.dtype) -> Array:
    """The coefficients; NaN where the balanced gradient might not be finite: norms bound each of its elements.

    Args:
        coefficients: (M,) float64.
        gramian: (M, M) of the gradients that they are applied to.
        finite: whether losses and statistics are.
        dtype: of the gradients.
    """
    bounded = abs(coefficients) @ namespace(gramian).sqrt(gramian.diagonal()) < LARGEST[dtype]
    return choose(finite & bounded, coefficients, torch.nan)


def may_be_replayed(balancer: Balancer) -> bool:
    """Whether a CUDA graph may replay a method's step: the method is portable, functions among its options
    depend on their arguments alone, and its classes have not changed since this was first asked."""
    kind: type = type(balancer)
    functions = [value for value in vars(balancer).values() if callable(value)]
    return (
        balancer.is_portable
        and all(isinstance(value, FunctionType) and value.__closure__ is None for value in functions)
        and all(vars(base) == attributes for base, attributes in _first_attributes(kind))
    )


@cache
def _first_attributes(kind: type) -> list[tuple[type, dict[str, Any]]]:
    """A class of methods and its bases, each with its attributes when this is first called."""
    return [(base, dict(vars(base))) for base in kind.__mro__ if issubclass(base, Balancer)]


def _state(balancer: Balancer) -> tuple[Tensor, ...]:
    """All buffers of the method itself, in a fixed order."""
    return tuple(buffer for buffer in balancer._buffers.values() if buffer is not None)


def _options(balancer: Balancer) -> tuple[int | float | str | FunctionType, ...]:
    """Values of all attributes that are numbers, strings or functions, in a fixed order."""
    return tuple(value for value in vars(balancer).values() if isinstance(value, (int, float, str, FunctionType)))


def _zeros(num_tasks: int, step: Tensor) -> Array:
    """(M, M), where the step is counted."""
    zeros = torch.zeros(num_tasks, num_tasks, dtype=torch.float64, device=step.device)
    return zeros.numpy() if readable_on_host(zeros) else zeros


def _broken(losses: Array | None, of_tasks: Array | None) -> Array | None:
    """Tasks of which something is not finite, (M,) bool; None where nothing is known of them, or the host reads that
    all of it is finite."""
    values = [each for each in (losses, of_tasks) if each is not None]
    if all(all_finite(each) is True for each in values):
        return None
    finite = [are_finite(each) for each in values]
    return ~(finite[0] if len(finite) == 1 else finite[0] & finite[1])
