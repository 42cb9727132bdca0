"""A step of the layer in operations on tensors: on a GPU, where the host must not look at values, and CUDA graphs
replay what is of size M; and on a CPU, where ``cpu_step.py`` does not suit."""

from collections.abc import Callable
from types import FunctionType
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from dlrm_mtl.balancing.kernels.cuda_graphs import CapturedStages, may_be_captured
from dlrm_mtl.balancing.kernels.empty_tasks import zero_where_empty
from dlrm_mtl.balancing.kernels.finite import Truth, all_finite, are_finite, host_may_look
from dlrm_mtl.balancing.kernels.gramian import gramian_of_parts, local_gramian
from dlrm_mtl.balancing.methods.balancer import Balancer

Result = TypeVar("Result")


class Marked(NamedTuple):
    """A statistic of one rank's gradients."""

    statistic: Tensor
    """NaN, if a task is broken: its reduction tells every rank. Zeros, if nothing is measured."""
    finite: Truth
    """Whether no task is broken."""
    broken: Tensor | None
    """(M,) bool, tasks of which something is not finite; None: none."""
    losses: Tensor | None
    """(M,) of this rank, with 0 for tasks without a row."""


class Decision(NamedTuple):
    """What a step's statistics lead to."""

    statistic: Tensor
    coefficients: Tensor
    task_weights: Tensor
    applied: Tensor
    """The coefficients, or NaN where the step is known not to be finite."""
    finite: Truth
    """Whether it is, as far as this rank knows."""
    broken: Tensor | None = None
    """As of :class:`Marked`, where nothing was marked before."""


class TensorSteps:
    """The parts of a step between collectives. What they return, the next step may overwrite.

    ``bounded_in`` is the dtype in which the balanced gradient is finite because coefficients and norms are, see
    :meth:`Balancer.bounded_coefficients`; None where that is not known before.
    """

    def __init__(self, balancer: Balancer) -> None:
        self._balancer = balancer
        self._captured = CapturedStages()

    def alone(
        self,
        local: Tensor | None,
        losses: Tensor | None,
        silent: Tensor | None,
        in_parts: bool,
        bounded_in: torch.dtype | None,
    ) -> Decision:
        """A whole step, in which nothing is reduced: :meth:`mark` and :meth:`settle`."""
        return self._run(self._alone, local, losses, silent, in_parts=in_parts, bounded_in=bounded_in)

    def mark(self, local: Tensor | None, losses: Tensor | None, silent: Tensor | None, in_parts: bool) -> Marked:
        """
        Args:
            local: what the method measures of this rank's gradients, if anything.
            losses: (M,) of this rank, if known.
            silent: (M,) bool, tasks without a gradient, if ``local`` is not to say it.
            in_parts: whether ``local`` is what :func:`gramian_parts` returns.
        """
        return self._run(self._mark, local, losses, silent, in_parts=in_parts)

    def settle(
        self,
        marked: Tensor,
        statistic: Tensor,
        losses: Tensor | None,
        otherwise: Tensor | None,
        bounded_in: torch.dtype | None,
    ) -> Decision:
        """Advances the method's state.

        Args:
            marked: this step's, of this rank.
            statistic: what the coefficients come from, and the losses with it.
            otherwise: coefficients of the step before, if that is another step's.
        """
        return self._run(self._settle, marked, statistic, losses, otherwise, bounded_in=bounded_in)

    def unmeasured(self, marked: Marked, statistic: Tensor, losses: Tensor | None) -> Decision:
        """A step of a method that measures nothing, but whose Gramian was asked for, or that needs losses.

        Args:
            statistic: the Gramian, or zeros.
            losses: with it, if needed.
        """
        return self._decision(statistic, self._balancer.update(statistic, losses), marked.finite)

    def held(self, decision: Decision, marked: Tensor, bounded_in: torch.dtype | None) -> Decision:
        """A further micro-batch of a step that is decided.

        Args:
            marked: this micro-batch's, of this rank.
        """
        return self._decision(decision.statistic, decision.coefficients, all_finite(marked), marked, bounded_in)

    def first_delayed(self, marked: Tensor, bounded_in: torch.dtype | None) -> Decision:
        """A step that has no other step's statistic yet."""
        coefficients = self._balancer.initial_coefficients().clone()
        return self._decision(torch.zeros_like(marked), coefficients, all_finite(marked), marked, bounded_in)

    def of_method(self, losses: Tensor | None) -> Tensor | None:
        return losses if self._balancer.needs_losses else None

    def _run(self, stage: Callable[..., Result], *inputs: Tensor | None, **options: Any) -> Result:
        balancer = self._balancer
        if not may_be_captured(balancer.step) or not balancer.may_be_replayed:
            return stage(*inputs, **options)
        return self._captured(stage, inputs, options, _state(balancer), _options(balancer))

    def _alone(
        self,
        local: Tensor | None,
        losses: Tensor | None,
        silent: Tensor | None,
        in_parts: bool,
        bounded_in: torch.dtype | None,
    ) -> Decision:
        statistic, finite, broken, losses = self._mark(local, losses, silent, in_parts)
        if self._balancer.measures == "nothing":
            coefficients = self._balancer.update(statistic, self.of_method(losses))
            return self._decision(statistic, coefficients, finite)._replace(broken=broken)
        # Where all norms are finite, so are all products.
        known = finite if self._balancer.measures == "gramian" else all_finite(statistic)
        coefficients = self._balancer.update(statistic, self.of_method(losses), finite=known)
        return self._decision(statistic, coefficients, known, statistic, bounded_in)._replace(broken=broken)

    def _mark(self, local: Tensor | None, losses: Tensor | None, silent: Tensor | None, in_parts: bool) -> Marked:
        balancer = self._balancer
        if local is not None and in_parts:
            local = gramian_of_parts(local, balancer.num_tasks)
        of_tasks = None
        if local is not None:
            of_tasks = local.sum(dim=1) if balancer.measures == "pooled" else local.diagonal()
        if losses is not None and not host_may_look(losses):
            if silent is None and of_tasks is not None:
                silent = of_tasks == 0
            losses = losses if silent is None else zero_where_empty(losses, silent)
        broken = _broken(losses, of_tasks)
        finite: Truth = True if broken is None else ~broken.any()
        if losses is not None and losses.is_cuda and silent is None:
            # Whether a task with a NaN loss has diverged, or has no row, is left to its gradient: NaN is passed on.
            finite = ~losses.isinf().any()
        if local is None:
            local = local_gramian((None,) * balancer.num_tasks, balancer.step.device)
            if not balancer.needs_losses:
                return Marked(local, finite, broken, losses)
        return Marked(local if broken is None else torch.where(broken.any(), torch.nan, local), finite, broken, losses)

    def _settle(
        self,
        marked: Tensor,
        statistic: Tensor,
        losses: Tensor | None,
        otherwise: Tensor | None,
        bounded_in: torch.dtype | None,
    ) -> Decision:
        if otherwise is None:
            finite = all_finite(statistic)
            coefficients = self._balancer.update(statistic, losses, finite=finite)
        else:
            finite = all_finite(marked)
            coefficients = self._balancer.update(statistic, losses, otherwise)
        return self._decision(statistic, coefficients, finite, marked, bounded_in)

    def _decision(
        self,
        statistic: Tensor,
        coefficients: Tensor,
        finite: Truth,
        marked: Tensor | None = None,
        bounded_in: torch.dtype | None = None,
    ) -> Decision:
        applied = coefficients
        if marked is not None and bounded_in is not None:
            applied = self._balancer.bounded_coefficients(coefficients, finite, marked.diagonal(), bounded_in)
        return Decision(statistic, coefficients, self._balancer.task_weights().clone(), applied, finite)


def _state(balancer: Balancer) -> tuple[Tensor, ...]:
    """All buffers of the method itself, in a fixed order."""
    return tuple(buffer for buffer in balancer._buffers.values() if buffer is not None)


def _options(balancer: Balancer) -> tuple[int | float | str | FunctionType, ...]:
    """Values of all attributes that are numbers, strings or functions, in a fixed order."""
    return tuple(value for value in vars(balancer).values() if isinstance(value, (int, float, str, FunctionType)))


def _broken(losses: Tensor | None, of_tasks: Tensor | None) -> Tensor | None:
    """Tasks of which something is not finite, (M,) bool; None where nothing is known of them, or the host may look and
    sees that all of it is."""
    known = [values for values in (losses, of_tasks) if values is not None]
    if all(host_may_look(values) and all_finite(values) for values in known):
        return None
    finite = [are_finite(values) for values in known]
    return ~(finite[0] if len(finite) == 1 else finite[0] & finite[1])
