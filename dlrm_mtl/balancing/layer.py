"""The balancing layer: M aliases of the shared representation forward, one balanced gradient backward."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, NoReturn, get_args

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from dlrm_mtl.balancing.accumulation import MicroBatches
from dlrm_mtl.balancing.c_steps import take_c_step
from dlrm_mtl.balancing.cpu_step import cpu_step
from dlrm_mtl.balancing.exchange.reduction import PendingReduction, Reducer
from dlrm_mtl.balancing.inputs import require_losses, require_representation
from dlrm_mtl.balancing.kernels.empty_tasks import losses_of_rows, silent_tasks
from dlrm_mtl.balancing.kernels.finite import host_may_look
from dlrm_mtl.balancing.kernels.gramian import gramian_parts, local_gramian
from dlrm_mtl.balancing.methods.balancer import BOUNDED, Balancer, adds_up_gradients, measures_the_gramian
from dlrm_mtl.balancing.methods.loss_weighting import weigh_with_rows
from dlrm_mtl.balancing.methods.options import shown
from dlrm_mtl.balancing.record import BalancingRecord
from dlrm_mtl.balancing.state.delayed_state import (
    DelayedState,
    delayed_entries,
    restore_delayed_state,
    store_delayed_state,
)
from dlrm_mtl.balancing.state.initial_state import InitialState, device_of_stored
from dlrm_mtl.balancing.step_state import StepState
from dlrm_mtl.balancing.tensor_steps import Decision, Marked, TensorSteps

Reduction = Literal["exact", "delayed", "local"]
REDUCTIONS: tuple[str, ...] = get_args(Reduction)


class BalancingLayer(InitialState):
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
            raise ValueError(f"reduction is {shown(reduction)}, expected one of {', '.join(REDUCTIONS)}")
        self.balancer = balancer
        self.reduction = reduction
        self.nonfinite_tasks: Tensor
        # Each rank's own, and so not in the checkpoint.
        counts = torch.zeros(self.num_tasks, dtype=torch.int64, device="cpu")
        self.register_buffer("nonfinite_tasks", counts, persistent=False)
        self._reducer = Reducer(process_group)
        self._steps = TensorSteps(balancer)
        self._state = StepState()
        self._delayed_entries = delayed_entries(balancer) if reduction == "delayed" else {}

    @property
    def num_tasks(self) -> int:
        return self.balancer.num_tasks

    @property
    def record(self) -> BalancingRecord | None:
        """What the last backward did; None before the first one."""
        state = self._state
        if state.record is not None and not isinstance(state.record, BalancingRecord):
            state.record = state.record.record(self.num_tasks)
        return state.record

    def forward(self, representation: Tensor) -> tuple[Tensor, ...]:
        """
        Args:
            representation: (B, D), float64, float32, bfloat16 or float16.

        Returns:
            M views of it, one per task, in the balancer's order.

        Raises:
            TypeError: not one dense tensor of such a dtype.
            ValueError: a tensor without dimensions.
            RuntimeError: within a transform of torch.func.
        """
        require_representation(representation)
        if not self.training or not torch.is_grad_enabled():
            return tuple(representation for _ in range(self.num_tasks))
        views: tuple[Tensor, ...] = _Balance.apply(representation, self)
        return views

    def observe(self) -> None:
        """Has the next backward record the Gramian even where the method needs none (the control). Call it on every
        rank alike: it adds that step's all-reduce."""
        self._state.observe = True

    def weigh_losses(self, losses: Tensor) -> Tensor:
        """What to minimise instead of the (M,) local mean losses: they themselves, unless the method learns weights for
        them. Hands the losses to methods that depend on them.

        ::

            layer.weigh_losses(torch.stack(losses)).sum().backward()

        A task without a row in the batch may have the loss NaN, as the mean of no values: with a gradient that is zero
        or None, it counts as 0.

        Raises:
            TypeError: not a tensor of a floating dtype.
            ValueError: not M losses, or on another device than the layer.
        """
        require_losses(losses, self.num_tasks, self.balancer.step.device)
        if self.training and torch.is_grad_enabled():  # else there is no backward that they are for
            self._state.losses = losses.detach()
        weighting = self.balancer.loss_weighting
        return losses if weighting is None else weigh_with_rows(weighting, losses)

    @contextmanager
    def accumulating(self) -> Iterator[None]:
        """Backward passes within are of micro-batches of one optimizer step, and not the last of it.

        As with ``DistributedDataParallel.no_sync``, the last micro-batch's backward comes after, outside. All of them
        are weighed by the same coefficients, and the method's state steps once, with the Gramian over the rows of all::

            with layer.accumulating():
                for micro_batch in micro_batches[:-1]:
                    (layer.weigh_losses(losses_of(micro_batch)).sum() / len(micro_batches)).backward()
            (layer.weigh_losses(losses_of(micro_batches[-1])).sum() / len(micro_batches)).backward()
            optimizer.step()

        The losses that a method depends on are the mean over the micro-batches. Methods that depend on nothing
        (``mean`` and the like) count every micro-batch as a step. Every rank enters and leaves alike.

        Raises:
            ValueError: not ``reduction="delayed"``: the coefficients of a whole step cannot depend on rows that are yet
                to come.
        """
        if self.reduction != "delayed" and self.balancer.depends_on_batch:
            raise ValueError(f"reduction is {self.reduction!r}, expected 'delayed' to accumulate micro-batches")
        before, self._state.accumulating = self._state.accumulating, True
        try:
            yield
        finally:
            self._state.accumulating = before

    def reset_parameters(self) -> None:
        """Gives all state, the method's too, the values that it has in a new layer."""
        super().reset_parameters()
        self._state = StepState()
        self.balancer.reset_parameters()

    def balance(self, gradients: tuple[Tensor | None, ...]) -> Tensor | None:
        """The backward pass: M gradients of the local rows, or None, to the balanced one. Collective."""
        balancer, state = self.balancer, self._state
        if state.losses is not None and host_may_look(state.losses):
            state.losses = losses_of_rows(state.losses, gradients)
        observed = state.observe and balancer.measures == "nothing"
        first_of_delayed = self.reduction == "delayed" and state.pending is None
        in_tensors = observed or first_of_delayed or state.accumulating or state.accumulated is not None
        step = None if in_tensors else cpu_step(gradients, balancer)
        if step is not None:
            combined = take_c_step(step, balancer, self._reducer, state, self.reduction)
            if step.decision.any_broken:
                self._count(torch.tensor(step.decision.broken[: self.num_tasks], dtype=torch.bool, device="cpu"))
            self._end_step()
            return combined
        present = next((gradient for gradient in gradients if gradient is not None), balancer.step)
        parts = None
        if present.is_cuda and measures_the_gramian(balancer):
            parts = gramian_parts(gradients)  # their sum is left to a CUDA graph
        local = parts
        if local is None and balancer.measures != "nothing":
            local = balancer.measure(gradients, present.device)
        elif state.observe and local is None:
            local = local_gramian(gradients, present.device)
        bounded = balancer.measures == "gramian" and present.dtype in BOUNDED and adds_up_gradients(balancer)
        bounded_in = present.dtype if bounded else None
        decision = self._decide(local, self._silent(gradients), parts is not None, bounded_in)
        gramian = decision.statistic
        if balancer.measures == "pooled":
            gramian = local_gramian((None,) * self.num_tasks, present.device)
        state.record = BalancingRecord(gramian, decision.coefficients, decision.task_weights)
        self._end_step()
        return balancer.balanced_gradient(gradients, decision.applied, None if bounded_in else decision.finite)

    def _silent(self, gradients: tuple[Tensor | None, ...]) -> Tensor | None:
        """(M,) bool, tasks without a gradient, where losses depend on it that the host may not look at, and no Gramian
        is going to say it. None on a GPU for a method that depends on nothing: the look would cost what it saves."""
        losses, balancer = self._state.losses, self.balancer
        if losses is None or host_may_look(losses) or balancer.measures == "gramian":
            return None
        if losses.is_cuda and not balancer.depends_on_batch:
            return None
        return silent_tasks(gradients, losses.device)

    def _decide(
        self, local: Tensor | None, silent: Tensor | None, in_parts: bool, bounded_in: torch.dtype | None
    ) -> Decision:
        """From what the method measures of this rank's gradients, if anything, to coefficients. Collective."""
        balancer, losses = self.balancer, self._state.losses
        delayed = self.reduction == "delayed" and balancer.depends_on_batch
        reduced = self._is_reduced and (local is not None or balancer.needs_losses)
        if not delayed and not reduced:
            decision = self._steps.alone(local, losses, silent, in_parts, bounded_in)
            self._count(decision.broken)
            return decision
        marked = self._steps.mark(local, losses, silent, in_parts)
        self._count(marked.broken)
        if delayed:
            return self._decide_delayed(marked, bounded_in)
        pending = self._reducer.start(marked.statistic, balancer.degree, self._steps.of_method(marked.losses))
        statistic, losses = pending.wait()
        if balancer.measures == "nothing":
            return self._steps.unmeasured(marked, statistic, losses)
        return self._steps.settle(marked.statistic, statistic, losses, None, bounded_in)

    def _decide_delayed(self, marked: Marked, bounded_in: torch.dtype | None) -> Decision:
        state = self._state
        statistic, losses = marked.statistic, self._steps.of_method(marked.losses)
        if statistic.is_cuda:  # kept until the next step, which may overwrite what a graph returned
            statistic, losses = statistic.clone(), None if losses is None else losses.clone()
        last = state.coefficients_on(self.balancer.step.device)
        if state.accumulated is not None and state.decision is not None:
            decision = self._steps.held(state.decision, marked.statistic, bounded_in)
        elif state.pending is None or last is None:
            decision = self._steps.first_delayed(statistic, bounded_in)
        else:
            # A step that was not finite has been skipped: what was to be applied then is applied now.
            decision = self._steps.settle(statistic, *state.pending.wait(), last, bounded_in)
        state.coefficients = decision.coefficients
        if state.accumulated is not None:
            rows = state.accumulated.plus(statistic, losses)
        else:
            rows = MicroBatches(statistic, losses, 1)
        if state.accumulating:
            state.accumulated, state.decision = rows, decision
        else:
            state.accumulated = state.decision = None
            state.pending = self._reducer.start(rows.statistic, self.balancer.degree, rows.mean_losses)
        return decision

    def _end_step(self) -> None:
        self._state.observe = False
        self._state.losses = None

    def _count(self, broken: Tensor | None) -> None:
        if broken is not None:
            self.nonfinite_tasks += broken

    @property
    def _is_reduced(self) -> bool:
        """Whether what coefficients come from is that of other ranks, too."""
        return self.reduction != "local" and self._reducer.world_size > 1

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self._state.accumulated is not None:
            raise RuntimeError(
                "the balancing layer's state was asked for between micro-batches of one step (see accumulating()),"
                " expected after the last one's backward"
            )
        last = self._state.coefficients_on(self.balancer.step.device)
        if self._state.pending is not None and last is not None:
            state = DelayedState(*self._state.pending.wait(), last)
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
            self._state.pending = self._state.coefficients = None
            self._state.accumulated = self._state.decision = None
        if used:
            device = self.balancer.step.device
            if device.type == "meta":  # the method's state is yet to be loaded
                device = device_of_stored(state_dict, prefix) or device
            state = restore_delayed_state(stored, self._delayed_entries, device)
            self._state.pending = PendingReduction(state.statistic, state.losses, None, None)
            self._state.coefficients = state.coefficients
        others = {key: value for key, value in state_dict.items() if not key.startswith(starts)}
        super()._load_from_state_dict(others, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)

    def _replicate_for_data_parallel(self) -> NoReturn:
        raise RuntimeError(
            "torch.nn.DataParallel would balance each replica by its own rows and forget its state, expected"
            " DistributedDataParallel, with one process per device"
        )


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
