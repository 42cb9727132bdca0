"""The cut: the tensors at which the shared part of a model ends. Each task gets views of those that it reads.

Every path from a loss to a shared parameter leads through a tensor of the cut. So the parameters below it receive the
balanced gradient exactly, and all others keep their own. With a shared bottom the cut is the shared representation;
with shared experts it is their outputs and the inputs of the tasks' gates.

Notation: B batch, M tasks, K experts, d their width, R mixtures.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dlrm_mtl.balancing.inputs import require_cut, require_experts, require_gates, require_representation
from dlrm_mtl.balancing.kernels.gradients import CutGradients, MixtureGradients, join_reads

Reads = Sequence[Sequence[Tensor]]
"""For each of M tasks, the tensors that it reads. A tensor that several tasks read is the same object in each list."""

Views = tuple[Tensor, ...] | tuple[tuple[Tensor, ...], ...]
"""The views that the tasks read: M tensors for one shared representation, else M tuples in the order of the reads."""


class Balances(Protocol):
    """What balances the gradients of a cut: one of the layers."""

    one_backward: ClassVar[bool]
    """Whether a second backward pass through the same forward is an error."""

    @property
    def num_tasks(self) -> int: ...

    def balance(self, cut: CutGradients) -> list[Tensor | None]:
        """Turns M gradients at each tensor of the cut into one."""


class Mixture:
    """Mixes experts by the gates of each task: ``mixture(gates) -> (B, M, d)``.

    Its result and gradients are those of the weighted sum of the experts as a tensor of the cut. But its backward pass
    never forms the gradients of single tasks at the experts, (B, K, d).
    """

    def __init__(self, experts: Tensor, num_tasks: int) -> None:
        self._experts = experts
        self._num_tasks = num_tasks
        self._node: Tensor | None = None
        self._reads: list[MixtureGradients] = []

    def __call__(self, gates: Tensor, tasks: Sequence[int] | None = None) -> Tensor:
        """
        Args:
            gates: (B, R, K) weights of the experts in each mixture.
            tasks: (R,) the task that each mixture belongs to; by default R = M, one for each task in order.

        Returns:
            (B, R, d) mixtures, sum over k of gates[:, r, k] experts[:, k].

        Raises:
            ValueError: gates of another shape, or no such task.
        """
        tasks = tuple(range(self._num_tasks) if tasks is None else tasks)
        require_gates(gates, self._experts, tasks, self._num_tasks)
        gates = gates.to(self._experts.dtype)
        if self._node is None:
            return torch.bmm(gates, self._experts)
        mixed: Tensor = _Mix.apply(gates, self._node, self._experts.detach(), self._reads, tasks, self._num_tasks)
        return mixed

    def connect(self, owner: Balances, readers: Sequence[Sequence[int]], tensors: Sequence[Tensor]) -> list[Tensor]:
        """Views of the other tensors of the cut. From here on a scalar represents the experts in the graph."""
        *views, self._node = _Cut.apply(owner, readers, self._reads, *tensors, self._experts)
        return views


def hand_out(owner: Balances, representation: Tensor | Reads, active: bool) -> Views:
    """See :meth:`BalancingLayer.forward`.

    Args:
        owner: what balances the gradients.
        active: whether to balance the backward pass that may follow.
    """
    reads = _reads(representation, owner.num_tasks)
    if active and isinstance(representation, Tensor):
        return _Cut.apply(owner, (range(owner.num_tasks),), None, representation)
    return _like(representation, _connected(owner, reads, None) if active else reads)


def hand_out_with_experts(
    owner: Balances, representation: Tensor | Reads, experts: Tensor, active: bool
) -> tuple[Views, Mixture]:
    """See :meth:`BalancingLayer.with_experts`."""
    reads = _reads(representation, owner.num_tasks)
    require_experts(experts)
    mixture = Mixture(experts, owner.num_tasks)
    return _like(representation, _connected(owner, reads, mixture) if active else reads), mixture


def _reads(representation: Tensor | Reads, num_tasks: int) -> Reads:
    if isinstance(representation, Sequence):
        require_cut(representation, num_tasks)
        return representation
    require_representation(representation)
    return [(representation,)] * num_tasks


def _like(representation: Tensor | Reads, views: Reads) -> Views:
    if isinstance(representation, Sequence):
        return tuple(map(tuple, views))
    return tuple(view for (view,) in views)


def _connected(owner: Balances, reads: Reads, mixture: Mixture | None) -> Reads:
    """Views of the tensors that require a gradient; others stay as they are."""
    tensors = {id(tensor): tensor for of_task in reads for tensor in of_task if tensor.requires_grad}
    readers = [
        tuple(task for task, of_task in enumerate(reads) if any(tensor is each for each in of_task))
        for tensor in tensors.values()
    ]
    if mixture is not None:
        outputs = mixture.connect(owner, readers, list(tensors.values()))
    elif tensors:
        outputs = _Cut.apply(owner, readers, None, *tensors.values())
    else:
        return reads
    views = iter(outputs)
    of_reader = {(key, task): next(views) for key, tasks in zip(tensors, readers, strict=True) for task in tasks}
    return [[of_reader.get((id(tensor), task), tensor) for tensor in of_task] for task, of_task in enumerate(reads)]


class _Cut(torch.autograd.Function):
    """Identity: views of each tensor for its readers, and a scalar that represents the experts, if there are any.
    Backward passes all gradients to the owner at once."""

    @staticmethod
    def forward(
        ctx: Any,
        owner: Balances,
        readers: Sequence[Sequence[int]],
        mixture_reads: list[MixtureGradients] | None,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        # Not the Mixture itself, which holds the scalar: a reference cycle through the graph is never freed.
        ctx.owner, ctx.readers, ctx.mixture_reads = owner, readers, mixture_reads
        ctx.fired = False
        # A head that the loss does not use must arrive as None, not as a materialised zero tensor.
        ctx.set_materialize_grads(False)
        views = [tensor.view_as(tensor) for tensor, tasks in zip(tensors, readers, strict=False) for _ in tasks]
        return tuple(views) if mixture_reads is None else (*views, tensors[-1].new_zeros(()))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        if ctx.fired and ctx.owner.one_backward:
            raise RuntimeError(
                "a second backward pass reached the balancing layer: call backward() once, on the sum of all task"
                " losses; separate passes would update fused embedding tables once each"
            )
        ctx.fired = True
        num_tasks = ctx.owner.num_tasks
        arriving = iter(gradients)
        cut: list[Any] = []
        for tasks in ctx.readers:
            of_reader = dict(zip(tasks, arriving, strict=False))
            cut.append(tuple(of_reader.get(task) for task in range(num_tasks)))
        if ctx.mixture_reads is not None:
            cut.append(join_reads(ctx.mixture_reads, num_tasks))
            ctx.mixture_reads.clear()
        return None, None, None, *ctx.owner.balance(cut)


class _Mix(torch.autograd.Function):
    """The mixtures. Backward returns the gradient of the gates; that of the experts is left to the cut."""

    @staticmethod
    def forward(
        ctx: Any,
        gates: Tensor,
        node: Tensor,
        experts: Tensor,
        reads: list[MixtureGradients],
        tasks: tuple[int, ...],
        num_tasks: int,
    ) -> Tensor:
        ctx.save_for_backward(gates, experts)
        ctx.reads, ctx.tasks, ctx.num_tasks = reads, tasks, num_tasks
        with torch.autocast(experts.device.type, enabled=False):
            return torch.bmm(gates, experts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, deltas: Tensor) -> tuple[Tensor | None, ...]:
        gates, experts = ctx.saved_tensors
        ctx.reads.append(MixtureGradients(gates, deltas, ctx.tasks, ctx.num_tasks))
        of_gates = torch.bmm(deltas, experts.mT) if ctx.needs_input_grad[0] else None
        return of_gates, deltas.new_zeros(()), None, None, None, None
