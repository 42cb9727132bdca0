"""The base class of balancing methods: a function from the Gramian to coefficients, with a little state."""

from collections.abc import Sequence
from functools import cache
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from dlrm_mtl.balancing.algebra.arrays import Array, at_most, detached, floats, in_kind_of, like, namespace, to_tensor
from dlrm_mtl.balancing.algebra.finite import (
    Truth,
    all_finite,
    are_finite,
    assign_where,
    choose,
    count,
    readable_on_host,
)
from dlrm_mtl.balancing.kernels.compiled_methods import compiled_coefficients
from dlrm_mtl.balancing.kernels.empty_tasks import losses_of_rows
from dlrm_mtl.balancing.methods.loss_weighting import LossWeighting
from dlrm_mtl.balancing.methods.options import uniform_weights
from dlrm_mtl.balancing.methods.reuse import Reuse
from dlrm_mtl.balancing.methods.whole_gradients import WholeGradients


class Balancer(WholeGradients):
    """Turns the Gramian of M task gradients (or another statistic of them) into M coefficients.

    Notation: M tasks; g_m the gradient of task m's loss with respect to the shared representation, flattened over the
    global batch; G = (<g_i, g_j>) the (M, M) Gramian. A method defines :meth:`coefficients`.

    State is kept in buffers: on the model's device, in float64, in checkpoints by task name. After loading into another
    task set, weights need not sum to 1; the next step corrects that.

    Args:
        num_tasks: M.
        task_names: unique names, in order; ``task0``, ``task1``, ... by default.

    Raises:
        ValueError: M < 1, or names that are not M different ones.
    """

    needs_losses: bool = False
    """Whether coefficients depend on the losses too, which are then those of the global batch on every rank."""

    portable: ClassVar[bool] = False
    """Whether :meth:`coefficients` takes NumPy arrays as well as tensors (``algebra/arrays.py``), does the same
    operations in every call, keeps its state in buffers, and branches only on attributes that are numbers, strings or
    functions. A CPU then passes NumPy arrays, and a GPU may replay it from a CUDA graph; other methods get tensors. Not
    inherited: each class declares it for itself."""

    def __init__(self, num_tasks: int, task_names: Sequence[str] | None = None) -> None:
        if num_tasks < 1:
            raise ValueError(f"num_tasks is {num_tasks}, expected at least 1")
        names = tuple(task_names) if task_names is not None else tuple(f"task{m}" for m in range(num_tasks))
        if len(names) != num_tasks or len(set(names)) != num_tasks:
            raise ValueError(f"expected {num_tasks} different task names, found {list(names)}")
        super().__init__(names)
        self.num_tasks = num_tasks
        self.loss_weighting: LossWeighting | None = None
        self.mixed_with_mean = 0.0
        self.fade_steps = 0
        self.reuse = Reuse()
        self.step: Tensor
        self.nonfinite_steps: Tensor
        self.register_buffer("step", torch.zeros((), dtype=torch.int64, device="cpu"))
        self.register_buffer("nonfinite_steps", torch.zeros((), dtype=torch.int64, device="cpu"))
        self.latest_coefficients: Tensor
        # A subclass may override the default of its base class, and call it.
        if any(kind.task_weights is Balancer.task_weights for kind in _methods_above(type(self))):
            self.register_buffer("latest_coefficients", uniform_weights(num_tasks), persistent=False)

    def coefficients(self, statistic: Array, losses: Array | None) -> tuple[Array, dict[str, Array]]:
        """One step of the method, as a pure function of the statistic, the losses and the present state.

        Args:
            statistic: (M, M) Gramian or (M, D) pooled gradients, float64. If it is not finite, the result is discarded.
            losses: (M,) mean losses of the global batch, for methods that need them; 0 for a task without a row.

        Returns:
            (M,) coefficients of the raw gradients, and the new values of the buffers that change.
        """
        raise NotImplementedError

    def task_weights(self) -> Tensor:
        """(M,) present task weights, for logs: lambda of MultiBalance. By default the coefficients of the last step,
        before ``mix``; 1/M each before it."""
        return self.latest_coefficients

    def initial_coefficients(self) -> Tensor:
        """(M,) coefficients of a first step with ``reduction="delayed"``, which has no Gramian yet, before ``mix``."""
        return self.task_weights()

    def mixed(self, coefficients: Array) -> Array:
        """(M,) the method's coefficients w with ``mix`` and ``fade`` of the mean, see
        :func:`common_options.set_common_options`."""
        mix = self.mixed_with_mean
        if mix:
            coefficients = (coefficients + mix / self.num_tasks) / (1 + mix)
        if self.fade_steps:
            # Steps that reuse coefficients follow the one that measured, which is counted already.
            measured = floats(like(coefficients, self.step)) - int(self.reuse.position > 0)
            share = at_most(measured * (self.reuse.period / self.fade_steps), 1)
            coefficients = (1 - share) * coefficients + share / self.num_tasks
        return coefficients

    def reuse_coefficients(self, period: int) -> None:
        """Makes the coefficients of steps 0, R, 2R, ... serve the R - 1 steps after each as well, with R > 1."""
        self.reuse = Reuse(period)
        self.register_task_state("latest_coefficients", uniform_weights(self.num_tasks))
        self.position_in_period: Tensor
        self.register_buffer("position_in_period", torch.zeros((), dtype=torch.int64, device="cpu"))

    @property
    def measures_now(self) -> Literal["gramian", "pooled", "nothing"]:
        """What the present step measures: nothing if it reuses coefficients."""
        return "nothing" if self.reuse.position else self.measures

    def reused_coefficients(self) -> Tensor:
        """(M,) coefficients of the last step that measured and was finite."""
        return 1.0 * self.mixed(self.latest_coefficients)

    def end_step(self) -> None:
        """Moves on to the next step, which measures or reuses."""
        if self.reuse.period > 1:
            self.reuse.end_step()
            self.position_in_period.fill_(self.reuse.position)

    @property
    def depends_on_batch(self) -> bool:
        """Whether coefficients depend on values that must be reduced over ranks."""
        return self.measures != "nothing" or self.needs_losses

    @property
    def depends_on_batch_now(self) -> bool:
        """Whether the present step's do: not if it reuses coefficients."""
        return self.depends_on_batch and not self.reuse.position

    @property
    def is_portable(self) -> bool:
        """Whether ``portable`` holds for this object: its own class declares it, and no function of the class is
        replaced on the object."""
        own: type = type(self)
        return self.portable and "portable" in vars(own) and vars(self).keys().isdisjoint(_functions(own))

    @torch.no_grad()
    def update(
        self,
        statistic: Array,
        losses: Array | None = None,
        fallback_coefficients: Array | None = None,
        finite: Truth | None = None,
    ) -> Array:
        """Advances the state by one step, without host synchronisation.

        If the statistic is not finite, the state stays as it is and ``nonfinite_steps`` counts the step.

        Args:
            statistic: see :meth:`coefficients`; a tensor, or a NumPy array on a CPU. The other arrays are of the same
                kind.
            fallback_coefficients: (M,) returned if the statistic is not finite; the initial coefficients by default.
            finite: whether statistic and losses are finite; computed if None.

        Returns:
            (M,) float64 coefficients of the raw gradients, of the statistic's kind.

        Raises:
            ValueError: the method needs losses, and they are None; :meth:`coefficients` returned something else.
        """
        if self.needs_losses and losses is None:
            raise ValueError(f"{type(self).__name__} needs the losses: pass them through layer.weigh_losses(losses)")
        statistic, losses = detached(statistic), floats(detached(losses)) if self.needs_losses else None
        if finite is None:
            finite = all_finite(statistic) if losses is None else all_finite(statistic) & all_finite(losses)
        with np.errstate(all="ignore"):
            coefficients, state = self._step(statistic, losses)
        if losses is not None:
            coefficients = _of_tasks_with_rows(coefficients, losses)
        if "latest_coefficients" in self._buffers:
            state = {**state, "latest_coefficients": coefficients}
        coefficients = self.mixed(coefficients)
        for name, values in state.items():
            buffer: Tensor = getattr(self, name)
            if buffer.shape != values.shape:  # the first step sets the width of averages
                buffer = self._buffers[name] = torch.zeros_like(to_tensor(values))
            assign_where(finite, buffer, values)
        count(self.step, finite)
        if finite is True:
            return coefficients
        count(self.nonfinite_steps, not finite if isinstance(finite, bool) else ~finite)
        if fallback_coefficients is None:
            fallback_coefficients = self.mixed(like(coefficients, self.initial_coefficients()))
        return choose(finite, coefficients, fallback_coefficients)

    def _step(self, statistic: Array, losses: Array | None) -> tuple[Array, dict[str, Array]]:
        """:meth:`coefficients`, called with arrays of the kind that it takes."""
        on_host, portable = isinstance(statistic, np.ndarray), self.is_portable
        if on_host and portable:
            return compiled_coefficients(self, statistic) or self._checked(statistic, losses)
        if on_host == portable or not readable_on_host(to_tensor(statistic)):
            return self._checked(statistic, losses)
        of_other_kind = torch.from_numpy if isinstance(statistic, np.ndarray) else Tensor.numpy
        coefficients, state = self._checked(of_other_kind(statistic), None if losses is None else of_other_kind(losses))
        values = {name: in_kind_of(statistic, value) for name, value in state.items()}
        return in_kind_of(statistic, coefficients), values

    def _checked(self, statistic: Array, losses: Array | None) -> tuple[Array, dict[str, Array]]:
        """:meth:`coefficients`, which a user may have written, if it returns what it should."""
        result = self.coefficients(statistic, losses)
        if isinstance(result, tuple) and len(result) == 2 and getattr(result[0], "shape", None) == (self.num_tasks,):
            return result
        shape = getattr(result[0] if isinstance(result, tuple) else result, "shape", None)
        returned = type(result).__name__ + ("" if shape is None else f" of shape {tuple(shape)}")
        raise ValueError(
            f"{type(self).__name__}.coefficients returned a {returned}, expected a tuple: ({self.num_tasks},)"
            " coefficients and a dict of the buffers that change"
        )

    def combine(self, gradients: Tensor, losses: Tensor | None = None) -> Tensor:
        """One step without a model and autograd.

        Args:
            gradients: (M, N) one row per task.
            losses: (M,), for methods that need them.

        Returns:
            (N,) the balanced gradient, in the gradients' dtype; all NaN if gradients or losses are not finite.

        Raises:
            ValueError: the number of rows is not M, or losses are missing.
        """
        if gradients.dim() != 2 or len(gradients) != self.num_tasks:
            raise ValueError(f"gradients have shape {tuple(gradients.shape)}, expected ({self.num_tasks}, N)")
        rows = list(gradients.detach())
        if self.loss_weighting is not None:
            rows = [row * weight for row, weight in zip(rows, self.loss_weighting.weights().detach(), strict=True)]
        losses = None if losses is None else losses_of_rows(losses, rows)
        finite: Truth = True if losses is None else all_finite(losses)
        if self.reuse.position:
            coefficients = self.reused_coefficients()
        else:
            statistic = self.measure(rows, gradients.device)
            finite = all_finite(statistic) & finite
            coefficients = self.update(statistic, losses)
        self.end_step()
        (combined,) = self.balanced_gradients([rows], coefficients, finite)
        return torch.zeros_like(rows[0]) if combined is None else combined

    def reset_parameters(self) -> None:
        super().reset_parameters()
        self.reuse.position = 0
        if self.loss_weighting is not None:
            self.loss_weighting.reset_parameters()

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        if self.reuse.period > 1:
            if not self.position_in_period.is_meta:
                self.reuse.position = int(self.position_in_period)
        elif "latest_coefficients" in self._buffers:  # not in a checkpoint
            self.latest_coefficients.fill_(1 / self.num_tasks)


@cache
def _functions(kind: type) -> frozenset[str]:
    """Names of a class's functions, inherited ones too."""
    return frozenset(name for name in dir(kind) if callable(getattr(kind, name)))


def _methods_above(kind: type[Balancer]) -> list[type[Balancer]]:
    """A class and those of its bases that are methods."""
    return [base for base in kind.__mro__ if issubclass(base, Balancer) and base is not Balancer]


def _of_tasks_with_rows(coefficients: Array, losses: Array) -> Array:
    """The coefficients, with 0 for tasks without a row (loss 0) whose coefficient, such as 1 / loss, is not finite: it
    would turn their zero gradient into NaN."""
    return namespace(losses).where((losses == 0) & ~are_finite(coefficients), 0.0, coefficients)
