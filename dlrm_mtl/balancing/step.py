"""The computations of a step that are of size M: what one rank's gradients say, and what the method decides.

NumPy does them where the host can read values. On a GPU they are operations on tensors, which CUDA graphs replay; the
next step may overwrite what they return.
"""

from collections.abc import Callable
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
from dlrm_mtl.balancing.methods.replay import may_be_replayed, options_of, state_of

Result = TypeVar("Result")

LARGEST = {dtype: torch.finfo(dtype).max for dtype in (torch.float32, torch.bfloat16, torch.float64)}
"""Largest numbers of the dtypes in which finite norms show that the balanced gradient is finite. In float16 the norm of
scaled gradients may overflow where no element does."""


class Measurement(NamedTuple):
    """What one rank knows of its rows."""

    statistic: Array
    """Gramian or pooled gradients, float64. NaN if a task is not finite, so that its reduction tells every rank; zeros
    if nothing is measured."""
    losses: Array | None
    """(M,) mean losses, float64, with 0 for tasks without a row."""
    finite: Truth
    """Whether every task is finite."""
    nonfinite: Array | None
    """(M,) bool, tasks with a loss or gradient that is not finite; None if there are none."""


class Reduced(NamedTuple):
    """What a step's coefficients follow from: statistics over all ranks."""

    statistic: Array
    losses: Array | None
    fallback: Array | None
    """(M,) coefficients to apply if the statistic is not finite, where it is that of the previous step."""


class Decision(NamedTuple):
    """The coefficients of a step, and what they follow from."""

    statistic: Array
    coefficients: Array
    task_weights: Array
    applied: Array
    """The coefficients; NaN if the step is known not to be finite."""
    finite: Truth | None
    """Whether losses and statistic are finite; the balanced gradient must then be checked too. None if ``applied``
    already accounts for the gradient, whose elements the norms bound."""


class Steps:
    """
    Args:
        balancer: the method, whose state :meth:`decide` advances.
    """

    def __init__(self, balancer: Balancer) -> None:
        self._balancer = balancer
        self._captured = CapturedStages()

    def measurement(self, measured: Array | None, losses: Array | None, silent: Array | None) -> Measurement:
        """
        Args:
            measured: what :func:`inner_products` or the method's own measure returned; None if nothing is measured.
            losses: (M,) of this rank, float64; None if it has none.
            silent: (M,) bool, tasks without a gradient; None where ``measured`` tells them.
        """
        return self._run(self._measurement, measured, losses, silent)

    def decide(self, measurement: Measurement, reduced: Reduced | Decision, dtypes: set[torch.dtype]) -> Decision:
        """Advances the method's state.

        Args:
            measurement: of the gradients that the coefficients will be applied to.
            reduced: statistics; or a decision to apply again, which leaves the state as it is.
            dtypes: of the gradients.
        """
        finite = None if measurement.finite is True else measurement.finite
        bounded_in = self._bounded_in(dtypes)
        if isinstance(reduced, Decision):
            repeated = reduced.statistic, reduced.coefficients
            return self._run(self._repeat, measurement.statistic, finite, *repeated, bounded_in=bounded_in)
        return self._run(self._decide, measurement.statistic, finite, *reduced, bounded_in=bounded_in)

    def initial(self, measurement: Measurement) -> Decision:
        """The decision of a first step that has no statistics yet."""
        statistic = namespace(measurement.statistic).zeros_like(measurement.statistic)
        coefficients = 1.0 * like(statistic, self._balancer.initial_coefficients())
        return Decision(statistic, coefficients, coefficients, coefficients, True)

    def _bounded_in(self, dtypes: set[torch.dtype]) -> torch.dtype | None:
        """The dtype, among those of the gradients, in which norms bound every element of the balanced gradient, so that
        it need not be checked; None where they do not."""
        bounded = self._balancer.measures == "gramian" and adds_up_gradients(self._balancer)
        if not bounded or not dtypes <= LARGEST.keys():
            return None
        return min(dtypes, key=LARGEST.__getitem__, default=torch.float64)

    def _run(self, stage: Callable[..., Result], *inputs: Any, **options: Any) -> Result:
        balancer = self._balancer
        if not may_be_captured(balancer.step) or not may_be_replayed(balancer):
            with np.errstate(all="ignore"):  # values that are not finite are handled
                return stage(*inputs, **options)
        return self._captured(stage, inputs, options, state_of(balancer), options_of(balancer))

    def _measurement(self, measured: Array | None, losses: Array | None, silent: Array | None) -> Measurement:
        balancer = self._balancer
        of_tasks = None  # (M,), not finite where a task's gradient is not
        if measured is None:
            statistic = _zeros(balancer.num_tasks, balancer.step)
        else:
            statistic = gramian_of(measured, balancer.num_tasks)
            of_tasks = statistic.sum(axis=1) if balancer.measures == "pooled" else statistic.diagonal()
        if losses is not None and all_finite(losses) is not True:
            silent = of_tasks == 0 if silent is None and of_tasks is not None else silent
            losses = losses if silent is None else zero_where_empty(losses, silent)
        nonfinite = _nonfinite_tasks(losses, of_tasks)
        finite: Truth = True if nonfinite is None else ~nonfinite.any()
        if nonfinite is not None and (measured is not None or balancer.needs_losses):
            statistic = choose(finite, statistic, torch.nan)
        if isinstance(losses, Tensor) and silent is None and of_tasks is None:
            # A task with a NaN loss has diverged, or has no row. Its gradient, which is passed on, tells which.
            finite = ~losses.isinf().any()
        return Measurement(statistic, losses, finite, nonfinite)

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
    """The coefficients; NaN if the balanced gradient, each of whose elements the norms bound, might not be finite.

    Args:
        coefficients: (M,) float64.
        gramian: (M, M) of the gradients that they are applied to.
        finite: whether losses and statistics are finite.
        dtype: of the gradients.
    """
    bounded = abs(coefficients) @ namespace(gramian).sqrt(gramian.diagonal()) < LARGEST[dtype]
    return choose(finite & bounded, coefficients, torch.nan)


def _zeros(num_tasks: int, step: Tensor) -> Array:
    """(M, M), where the step is counted."""
    zeros = torch.zeros(num_tasks, num_tasks, dtype=torch.float64, device=step.device)
    return zeros.numpy() if readable_on_host(zeros) else zeros


def _nonfinite_tasks(losses: Array | None, of_tasks: Array | None) -> Array | None:
    """(M,) bool; None if nothing is known of the tasks, or the host reads that all are finite."""
    values = [each for each in (losses, of_tasks) if each is not None]
    if all(all_finite(each) is True for each in values):
        return None
    finite = [are_finite(each) for each in values]
    return ~(finite[0] if len(finite) == 1 else finite[0] & finite[1])
