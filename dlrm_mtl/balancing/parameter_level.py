"""Balancing by the gradients of shared parameters: M extra backward passes per step (Algorithm 2 of the MultiBalance
paper). Its purpose is to measure what that costs (the paper's Table 2)."""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dlrm_mtl.balancing.algebra.finite import Truth, all_finite
from dlrm_mtl.balancing.cut import Mixture, Reads, Views, hand_out, hand_out_with_experts
from dlrm_mtl.balancing.inputs import require_losses
from dlrm_mtl.balancing.kernels.empty_tasks import losses_of_rows
from dlrm_mtl.balancing.kernels.gradients import CutGradients
from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.loss_weighting import weigh_with_rows
from dlrm_mtl.balancing.record import BalancingRecord
from dlrm_mtl.balancing.state.initial_state import InitialState


class ParameterLevelLayer(InitialState):
    """Weighs the tasks by their gradients with respect to some shared parameters; used in place of a BalancingLayer.

    :meth:`weigh_losses` runs one backward pass per task, which stops at the target parameters, and asks the balancer
    for coefficients. The following backward pass, over the sum of the losses, passes the weighted gradient on to
    everything below the layer, and to each head its own. So tables that are updated inside backward are updated once.

    Under data parallelism the M gradients are averaged over the ranks: M all-reduces of the target's size.

    Args:
        balancer: any method. MoCo averages the gradients of the parameters, as published.
        process_group: ranks that share the global batch; None is the default group, if one is initialised.

    If a loss or gradient is not finite, the gradient is NaN in every element, the balancer's state stays as it was, and
    ``nonfinite_tasks`` counts the tasks, as in the :class:`BalancingLayer`.

    Raises:
        ValueError: the balancer reuses coefficients.
    """

    one_backward: ClassVar[bool] = False

    def __init__(self, balancer: Balancer, process_group: dist.ProcessGroup | None = None) -> None:
        super().__init__()
        if balancer.reuse.period > 1:
            raise ValueError(f"every is {balancer.reuse.period}, expected 1 to balance at the level of parameters")
        self.balancer = balancer
        self.record: BalancingRecord | None = None
        self._process_group = process_group
        self._target: list[nn.Parameter] = []
        self._coefficients: Tensor | None = None
        self._finite: Truth
        self.nonfinite_tasks: Tensor
        # Each rank's own, and so not in the checkpoint.
        counts = torch.zeros(self.num_tasks, dtype=torch.int64, device="cpu")
        self.register_buffer("nonfinite_tasks", counts, persistent=False)

    def bind(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sets the target: parameters below the layer whose gradients decide the weights.

        Raises:
            ValueError: there are none.
        """
        if not parameters:
            raise ValueError("parameter-level balancing: the target has no parameters")
        self._target = list(parameters)

    def reset_parameters(self) -> None:
        """Resets the state of the layer and the method to that of a new layer."""
        super().reset_parameters()
        self.record = None
        self.balancer.reset_parameters()

    @property
    def num_tasks(self) -> int:
        return self.balancer.num_tasks

    def observe(self) -> None:
        """Does nothing: every step is recorded."""

    def forward(self, representation: Tensor | Reads) -> Views:
        """As :meth:`BalancingLayer.forward`."""
        self._coefficients = None
        return hand_out(self, representation, self.training and torch.is_grad_enabled())

    def with_experts(self, representation: Tensor | Reads, experts: Tensor) -> tuple[Views, Mixture]:
        """As :meth:`BalancingLayer.with_experts`."""
        self._coefficients = None
        return hand_out_with_experts(self, representation, experts, self.training and torch.is_grad_enabled())

    def weigh_losses(self, losses: Tensor) -> Tensor:
        """Computes this step's coefficients. Collective. Arguments, result and errors are those of
        :meth:`BalancingLayer.weigh_losses`."""
        require_losses(losses, self.num_tasks, self.balancer.step.device)
        weighting = self.balancer.loss_weighting
        minimized = losses if weighting is None else weigh_with_rows(weighting, losses)
        gradients = torch.stack([self._gradient(loss) for loss in minimized])  # (M, n)
        losses = losses_of_rows(losses.detach(), list(gradients))
        nonfinite = ~torch.isfinite(losses)
        # If a loss is not finite, the gradients of the other tasks are not finite either: zero times NaN.
        nonfinite = torch.where(nonfinite.any(), nonfinite, ~torch.isfinite(gradients.sum(dim=1)))
        self.nonfinite_tasks += nonfinite
        gradients.masked_fill_(nonfinite[:, None], torch.nan)  # so that the average is NaN on every rank
        if self._world_size > 1:
            dist.all_reduce(gradients, group=self._process_group)
            gradients /= self._world_size
            if self.balancer.needs_losses:
                losses = losses / self._world_size
                dist.all_reduce(losses, group=self._process_group)
        statistic = self.balancer.measure(list(gradients), gradients.device)
        self._finite = all_finite(statistic)
        self._coefficients = self.balancer.update(statistic, losses)
        gramian = statistic if self.balancer.measures == "gramian" else gradients.double() @ gradients.double().T
        self.record = BalancingRecord(gramian, self._coefficients, self.balancer.task_weights().clone())
        return minimized

    def balance(self, cut: CutGradients) -> list[Tensor | None]:
        """One rank's gradients below the layer: plain sums while coefficients are computed, weighted sums
        afterwards."""
        if self._coefficients is None:
            return self.balancer.balanced_gradients(cut, torch.ones_like(self.balancer.task_weights()))
        return self.balancer.balanced_gradients(cut, self._coefficients, self._finite)

    def _gradient(self, loss: Tensor) -> Tensor:
        """(n,) gradient of one loss with respect to the target, flattened."""
        parts = torch.autograd.grad(loss, self._target, retain_graph=True, materialize_grads=True)
        return torch.cat([part.reshape(-1) for part in parts])

    @property
    def _world_size(self) -> int:
        if dist.is_available() and dist.is_initialized():
            return dist.get_world_size(self._process_group)
        return 1
