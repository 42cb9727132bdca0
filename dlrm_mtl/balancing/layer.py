"""The balancing layer: M aliases of the shared representation forward, one balanced gradient backward."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dlrm_mtl.balancing.balancer import Balancer
from dlrm_mtl.balancing.delayed_state import (
    DelayedState,
    delayed_entries,
    restore_delayed_state,
    store_delayed_state,
)
from dlrm_mtl.balancing.finite import Truth, all_finite, are_finite, host_may_look
from dlrm_mtl.balancing.gramian import local_gramian
from dlrm_mtl.balancing.reduction import PendingReduction, Reducer

Reduction = Literal["exact", "delayed", "local"]
REDUCTIONS: tuple[str, ...] = get_args(Reduction)


@dataclass(frozen=True)
class BalancingRecord:
    """What the last backward did. Tensors stay on the device; reading a value synchronises."""

    gramian: Tensor
    """(M, M) float64, of the global batch; zeros where no Gramian was needed or asked for (see ``observe``).
    What the coefficients came from: under ``reduction="delayed"``, the previous step's."""
    coefficients: Tensor
    """(M,) float64, what each task's gradient was multiplied by; what it would have been, in a step that is not
    finite."""
    task_weights: Tensor
    """(M,) float64, the method's task weights after the step."""


class BalancingLayer(nn.Module):
    """Hands the shared representation to M task heads and replaces the sum of their gradients by a balanced one.

    ``forward(x: (B, D)) -> M views of x``. One ``backward()`` over the sum of the losses reaches the layer once, with
    M gradients (B, D); it forms their Gramian over the global batch, asks the balancer for M coefficients, and passes
    one gradient (B, D) on to everything below: interaction, bottom MLP, embedding tables. Heads keep their own
    gradients. In evaluation mode the layer is the identity.

    Under data parallelism each rank holds its rows and the local *mean* loss; every rank must build all M losses in
    every step (masked, never skipped), since the Gramian's all-reduce runs inside backward.

    A step that is not finite: where a gradient is not, or a loss handed over by :meth:`weigh_losses`, the rank that
    sees it passes NaN on in every element. So the gradients that data parallelism averages or exchanges are NaN on all
    ranks, and a GradScaler, or whoever else checks them, skips the step. With "exact" and "delayed" the state of a
    method that measures something stays as it was, on all ranks alike; with "local", on that rank. A method that
    measures nothing has no state but its count of steps.

    ``nonfinite_tasks``, (M,) int64, counts the tasks that this rank found not to be finite, for messages; set it to
    zero at will. Methods that measure nothing know the tasks by their losses, or in a step that is observed.

    Args:
        balancer: the method; its state is part of this module.
        process_group: ranks that share the global batch; None is the default group, if one is initialised. Use the
            model's own group: two communicators in flight are a hang hazard.
        reduction: "exact" all-reduces the Gramian before the weights are applied: the weights are those of one process
            with the whole batch. "delayed" applies the coefficients of the previous step and hides the all-reduce
            behind the rest of the step. "local" does without: each rank weighs by its own rows.

    With "delayed", what the next step's coefficients come from is state too, after the first step, by task name; saving
    waits for the all-reduce in flight. Loaded without a part of it, as in a task set with a new task, the layer leaves
    all of it out: its next step applies the initial coefficients, as a first one does.

    Raises:
        ValueError: unknown reduction; with "delayed", names like "a/b" that make two pairs of tasks look alike.
        RuntimeError: in backward, when a second backward pass reaches the same forward: fused embedding tables would
            be updated twice.
    """

    def __init__(
        self, balancer: Balancer, process_group: dist.ProcessGroup | None = None, reduction: Reduction = "exact"
    ) -> None:
        super().__init__()
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction is {reduction!r}, expected one of {', '.join(REDUCTIONS)}")
        self.balancer = balancer
        self.reduction = reduction
        self.record: BalancingRecord | None = None
        self.nonfinite_tasks: Tensor
        # Each rank's own, and so not in the checkpoint.
        self.register_buffer("nonfinite_tasks", torch.zeros(self.num_tasks, dtype=torch.int64), persistent=False)
        self._reducer = Reducer(process_group)
        self._pending: PendingReduction | None = None
        self._delayed_coefficients: Tensor | None = None
        self._losses: Tensor | None = None
        self._observe = False
        self._delayed_entries = delayed_entries(balancer) if reduction == "delayed" else {}

    @property
    def num_tasks(self) -> int:
        return self.balancer.num_tasks

    def forward(self, representation: Tensor) -> tuple[Tensor, ...]:
        """
        Args:
            representation: (B, D), any floating dtype.

        Returns:
            M views of it, one per task, in the balancer's order.
        """
        if not self.training or not torch.is_grad_enabled():
            return tuple(representation for _ in range(self.num_tasks))
        views: tuple[Tensor, ...] = _Balance.apply(representation, self)
        return views

    def observe(self) -> None:
        """Has the next backward record the Gramian even where the method needs none (the control). Call it on every
        rank alike: it adds that step's all-reduce."""
        self._observe = True

    def weigh_losses(self, losses: Tensor) -> Tensor:
        """What to minimise instead of the (M,) local mean losses: they themselves, unless the method learns weights for
        them. Hands the losses to methods that depend on them.

        ::

            layer.weigh_losses(torch.stack(losses)).sum().backward()

        Raises:
            ValueError: not M losses.
        """
        if losses.shape != (self.num_tasks,):
            raise ValueError(f"losses have shape {tuple(losses.shape)}, expected ({self.num_tasks},)")
        self._losses = losses.detach()
        weighting = self.balancer.loss_weighting
        return losses if weighting is None else weighting(losses)

    def balance(self, gradients: tuple[Tensor | None, ...]) -> Tensor | None:
        """The backward pass: M gradients of the local rows, or None, to the balanced one. Collective."""
        balancer = self.balancer
        device = next((gradient.device for gradient in gradients if gradient is not None), balancer.step.device)
        losses = self._losses if balancer.needs_losses else None
        nothing = (None,) * self.num_tasks
        squared_norms = None
        if balancer.measures == "nothing":
            gramian = local_gramian(gradients if self._observe else nothing, device)
            broken = _broken(self._losses, gramian.diagonal() if self._observe else None)
            if self._observe:
                gramian, _ = self._reduce(_marked(gramian, broken), 2, None)
            finite: Truth = True if broken is None else ~broken.any()
            coefficients = balancer.update(gramian, losses)
        else:
            local = balancer.measure(gradients, device)
            of_tasks = local.diagonal() if balancer.measures == "gramian" else local.sum(dim=1)
            broken = _broken(self._losses, of_tasks)
            gramian, coefficients, finite = self._weigh(_marked(local, broken), losses)
            if balancer.measures == "gramian":
                squared_norms = of_tasks
            else:
                gramian = local_gramian(nothing, device)
        if broken is not None:
            self.nonfinite_tasks += broken
        self._observe = False
        self._losses = None
        self.record = BalancingRecord(gramian, coefficients, balancer.task_weights().clone())
        return balancer.balanced_gradient(gradients, coefficients, finite, squared_norms)

    def _weigh(self, local: Tensor, losses: Tensor | None) -> tuple[Tensor, Tensor, Truth]:
        """The statistic that the coefficients come from, (M,) coefficients, and whether this step is finite, as far as
        this rank knows now."""
        degree = self.balancer.degree
        if self.reduction != "delayed":
            statistic, losses = self._reduce(local, degree, losses)
            finite = all_finite(statistic)
            return statistic, self.balancer.update(statistic, losses, finite=finite), finite
        if self._delayed_coefficients is None:
            self._delayed_coefficients = self.balancer.initial_coefficients().clone()
        if self._pending is None:
            previous = torch.zeros_like(local)
        else:
            previous, previous_losses = self._pending.wait()
            # A step that was not finite has been skipped: what was to be applied then is applied now.
            self._delayed_coefficients = self.balancer.update(previous, previous_losses, self._delayed_coefficients)
        self._pending = self._reducer.start(local, degree, losses)
        return previous, self._delayed_coefficients, all_finite(local)

    def _reduce(self, statistic: Tensor, degree: int, losses: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if self.reduction == "local":
            return statistic, losses
        return self._reducer.start(statistic, degree, losses).wait()

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self._pending is not None and self._delayed_coefficients is not None:
            state = DelayedState(*self._pending.wait(), self._delayed_coefficients)
            stored = store_delayed_state(state, self._delayed_entries)
            destination.update({prefix + key: value for key, value in stored.items()})

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        starts = tuple(f"{prefix}{name}." for name in self._delayed_entries)
        stored = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(starts)}
        expected = {f"{name}.{entry}" for name, entries in self._delayed_entries.items() for entry in entries}
        used = expected if expected <= stored.keys() else set()
        if stored:
            missing_keys += [prefix + key for key in sorted(expected - stored.keys())]
            unexpected_keys += [prefix + key for key in stored if key not in used]
        if any(key.startswith(prefix) for key in state_dict):  # this layer is among what is loaded
            self._pending = self._delayed_coefficients = None
        if used:
            state = restore_delayed_state(stored, self._delayed_entries, self.balancer.step.device)
            self._pending = PendingReduction(state.statistic, state.losses, None, None)
            self._delayed_coefficients = state.coefficients
        others = {key: value for key, value in state_dict.items() if not key.startswith(starts)}
        super()._load_from_state_dict(others, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)


def _broken(losses: Tensor | None, of_tasks: Tensor | None) -> Tensor | None:
    """Tasks of which something is not finite, (M,) bool; None where nothing is known of them, or the host may look and
    sees that all of it is."""
    known = [values for values in (losses, of_tasks) if values is not None]
    if all(host_may_look(values) and all_finite(values) for values in known):
        return None
    finite = [are_finite(values) for values in known]
    return ~(finite[0] if len(finite) == 1 else finite[0] & finite[1])


def _marked(statistic: Tensor, broken: Tensor | None) -> Tensor:
    """A local statistic, or NaN if a task is broken: its reduction tells every rank."""
    return statistic if broken is None else torch.where(broken.any(), torch.nan, statistic)


class _Balance(torch.autograd.Function):
    """Identity to M views; backward hands all M gradients to the layer at once."""

    @staticmethod
    def forward(ctx: Any, representation: Tensor, layer: BalancingLayer) -> tuple[Tensor, ...]:
        ctx.layer = layer
        ctx.fired = False
        # A head that the loss does not use must arrive as None, not as a materialised zero tensor.
        ctx.set_materialize_grads(False)
        return tuple(representation.view_as(representation) for _ in range(layer.num_tasks))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, None]:
        if ctx.fired:
            raise RuntimeError(
                "a second backward pass reached the balancing layer: call backward() once, on the sum of all task"
                " losses; separate passes would update fused embedding tables once each"
            )
        ctx.fired = True
        return ctx.layer.balance(gradients), None
