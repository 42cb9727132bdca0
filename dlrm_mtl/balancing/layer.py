"""The balancing layer: M views of the shared representation forward, one balanced gradient backward."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, NoReturn, get_args

import torch
import torch.distributed as dist
from torch import Tensor

from dlrm_mtl.balancing.algebra.arrays import Array, in_kind_of, to_tensor
from dlrm_mtl.balancing.cut import Mixture, Reads, Views, hand_out, hand_out_with_experts
from dlrm_mtl.balancing.decide import decide
from dlrm_mtl.balancing.delayed import Delayed
from dlrm_mtl.balancing.exchange.reduction import Reducer
from dlrm_mtl.balancing.inputs import require_losses
from dlrm_mtl.balancing.kernels.cuda_graphs import CapturedStages
from dlrm_mtl.balancing.kernels.gradients import CutGradients
from dlrm_mtl.balancing.measure import measure
from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.loss_weighting import weigh_with_rows
from dlrm_mtl.balancing.methods.options import shown
from dlrm_mtl.balancing.record import BalancingRecord
from dlrm_mtl.balancing.state.initial_state import InitialState, device_of_stored
from dlrm_mtl.balancing.step import Decision, Measurement, Reduced, StepState

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

    If a gradient, or a loss passed to :meth:`weigh_losses`, is not finite, the rank that sees it passes NaN on in every
    element. The gradients that data parallelism averages are then NaN on all ranks, and a GradScaler skips the step.
    The method's state stays as it was: with "exact" and "delayed" on all ranks, with "local" on that rank.

    ``nonfinite_tasks``, (M,) int64, counts the tasks that were not finite on this rank; it may be set to zero. For
    methods that measure nothing, the losses tell, or the Gramian of an observed step.

    Args:
        balancer: the method; its state is part of this module.
        process_group: ranks that share the global batch; None is the default group, if one is initialised. Use the
            model's own group: two communicators in flight are a hang hazard.
        reduction: "exact" all-reduces the Gramian before the weights are applied: the weights are those of one process
            with the whole batch. "delayed" applies the coefficients of the previous step and hides the all-reduce
            behind the rest of the step. "local" has no all-reduce: each rank weighs by its own rows.

    With "delayed", the statistics of the last step are state too, by task name; saving waits for the all-reduce in
    flight. If a checkpoint lacks a part of them, as for a new task, the next step is like a first one.

    Raises:
        ValueError: unknown reduction; with "delayed", names like "a/b" that make two pairs of tasks look alike.
        RuntimeError: in backward, when a second backward pass reaches the same forward: fused embedding tables would
            be updated twice.
    """

    one_backward: ClassVar[bool] = True

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
        self._captured = CapturedStages()
        self._delayed = Delayed(balancer, self._reducer) if reduction == "delayed" else None
        self._step = StepState()

    @property
    def num_tasks(self) -> int:
        return self.balancer.num_tasks

    @property
    def record(self) -> BalancingRecord | None:
        """What the last backward pass did; None before the first one."""
        decision = self._step.decision
        if decision is None:
            return None
        gramian = to_tensor(decision.statistic)
        if self.balancer.measures == "pooled":
            gramian = gramian.new_zeros(self.num_tasks, self.num_tasks)
        return BalancingRecord(gramian, to_tensor(decision.coefficients), to_tensor(decision.task_weights))

    def forward(self, representation: Tensor | Reads) -> Views:
        """
        ::

            views = layer(x)                                    # M views of one shared representation
            views = layer([(x, own[m]) for m in range(M)])      # M tuples of views of what each task reads

        Args:
            representation: (B, D), float64, float32, bfloat16 or float16. Or a cut of several tensors, of any shapes:
                M lists of what each task reads. A tensor that several tasks read is the same object in each list.

        Returns:
            M views of the representation, one per task, in the balancer's order; of a cut, M tuples of views.

        Raises:
            TypeError: neither one dense tensor of such a dtype, nor lists of such tensors.
            ValueError: a tensor without dimensions; lists for another number of tasks; one tensor as two objects.
            RuntimeError: within a transform of torch.func.
        """
        return hand_out(self, representation, self._is_active)

    def with_experts(self, representation: Tensor | Reads, experts: Tensor) -> tuple[Views, Mixture]:
        """Balances at a cut that holds the outputs of shared experts, which tasks read through gates alone::

            views, mixture = layer.with_experts(x, experts)
            gates = torch.stack([gate(view).softmax(-1) for gate, view in zip(task_gates, views)], dim=1)
            mixed = mixture(gates)                              # (B, M, d), one row per task

        Args:
            representation: as in :meth:`forward`: what else the tasks read; the input of the gates at least.
            experts: (B, K, d).

        Returns:
            what :meth:`forward` returns, and the :class:`Mixture`.

        Raises:
            TypeError, ValueError, RuntimeError: as in :meth:`forward`, and for experts of another shape.
        """
        return hand_out_with_experts(self, representation, experts, self._is_active)

    @property
    def _is_active(self) -> bool:
        return self.training and torch.is_grad_enabled()

    def observe(self) -> None:
        """Makes the next backward pass record the Gramian even if the method needs none (the control). Call it on every
        rank: it adds an all-reduce to that step."""
        self._step.observe = True

    def weigh_losses(self, losses: Tensor) -> Tensor:
        """Passes the losses to methods that depend on them, and applies learned loss weights.

        ::

            layer.weigh_losses(torch.stack(losses)).sum().backward()

        Args:
            losses: (M,) local mean losses. A task without a row in the batch may have the loss NaN: if its gradient is
                zero or None, the loss counts as 0.

        Returns:
            (M,) losses to minimise: the same, unless the method learns weights for them.

        Raises:
            TypeError: not a tensor of a floating dtype.
            ValueError: not M losses, or on another device than the layer.
        """
        require_losses(losses, self.num_tasks, self.balancer.step.device)
        if self.training and torch.is_grad_enabled():
            self._step.losses = losses.detach()
        weighting = self.balancer.loss_weighting
        return losses if weighting is None else weigh_with_rows(weighting, losses)

    @contextmanager
    def accumulating(self) -> Iterator[None]:
        """For gradient accumulation: encloses the backward passes of all micro-batches but the last.

        As with ``DistributedDataParallel.no_sync``, the backward pass of the last one comes after the block. The same
        coefficients weigh all micro-batches, and the method takes one step, with the Gramian over the rows of all::

            with layer.accumulating():
                for micro_batch in micro_batches[:-1]:
                    (layer.weigh_losses(losses_of(micro_batch)).sum() / len(micro_batches)).backward()
            (layer.weigh_losses(losses_of(micro_batches[-1])).sum() / len(micro_batches)).backward()
            optimizer.step()

        Methods that need losses get their mean over the micro-batches. Methods that depend on nothing (such as
        ``mean``) count every micro-batch as a step. Every rank must enter and leave the block.

        Raises:
            ValueError: the reduction is not "delayed": the coefficients of a step would depend on rows to come.
        """
        if self.reduction != "delayed" and self.balancer.depends_on_batch:
            raise ValueError(f"reduction is {self.reduction!r}, expected 'delayed' to accumulate micro-batches")
        if self._delayed is None:
            yield
            return
        before, self._delayed.accumulating = self._delayed.accumulating, True
        try:
            yield
        finally:
            self._delayed.accumulating = before

    def reset_parameters(self) -> None:
        """Resets the state of the layer and the method to that of a new layer."""
        super().reset_parameters()
        self._step = StepState()
        if self._delayed is not None:
            self._delayed.reset()
        self.balancer.reset_parameters()

    def balance(self, cut: CutGradients) -> list[Tensor | None]:
        """The backward pass: M gradients of the local rows at each tensor of the cut become one. Collective."""
        measurement = measure(self.balancer, cut, self._step, self._captured)
        if measurement.nonfinite is not None:
            self.nonfinite_tasks += to_tensor(measurement.nonfinite)
        reduced = self._reduce(measurement)
        decision = decide(self.balancer, measurement, reduced, cut, self._captured)
        self._end_step(decision)
        return self.balancer.balanced_gradients(cut, to_tensor(decision.applied), decision.finite)

    def _reduce(self, measurement: Measurement) -> Reduced:
        """The statistics over all ranks, of this step or, with "delayed", of the last one. Collective."""
        balancer = self.balancer
        if self._delayed is not None and self.balancer.depends_on_batch_now:
            return self._delayed.exchange(measurement)
        losses = measurement.losses if balancer.needs_losses else None
        repeated = self._reused(measurement.statistic) if balancer.reuse.position else None
        needs_sums = self.balancer.depends_on_batch_now or self._step.observe
        if not needs_sums or self.reduction == "local" or self._reducer.world_size == 1:
            return Reduced(measurement.statistic, losses, repeated=repeated)
        sums = self._reducer.start(measurement.statistic, balancer.degree, losses).wait()
        return Reduced(*sums, repeated=repeated)

    def _reused(self, statistic: Array) -> Array:
        """(M,) coefficients of an earlier step."""
        last = None if self._delayed is None else self._delayed.last_coefficients()
        return in_kind_of(statistic, self.balancer.reused_coefficients() if last is None else last)

    def _end_step(self, decision: Decision) -> None:
        if self._delayed is not None:
            self._delayed.remember(decision)
        if self._delayed is None or not self._delayed.accumulating:
            self.balancer.end_step()
        self._step = StepState(decision=decision)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self._delayed is not None:
            destination.update({prefix + key: value for key, value in self._delayed.store().items()})

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        _, _, missing_keys, unexpected_keys, _ = arguments
        if self._delayed is not None:
            device = self.balancer.step.device
            if device.type == "meta":  # the method's state is not loaded yet
                device = device_of_stored(state_dict, prefix) or device
            missing, unused, state_dict = self._delayed.load_from(state_dict, prefix, device)
            missing_keys += missing
            unexpected_keys += unused
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def _replicate_for_data_parallel(self) -> NoReturn:
        raise RuntimeError(
            "torch.nn.DataParallel would balance each replica by its own rows and forget its state, expected"
            " DistributedDataParallel, with one process per device"
        )
