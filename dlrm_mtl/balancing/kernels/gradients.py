"""The gradients of M tasks at a cut: one entry per tensor.

Experts are read through gated mixtures: a read r computes the mixture sum over k of gate_rk E_k (B, d). With delta_r
(B, d), the gradient at this mixture, the gradient at the experts is the outer product gate_r delta_r (B, K, d). Inner
products and weighted sums of such gradients are computed from the gates and the deltas, so that none of them is formed.

Notation: B batch, K experts, d their width, R reads, M tasks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor


@dataclass(frozen=True)
class MixtureGradients:
    """The gradients of M tasks at K experts."""

    gates: Tensor
    """(B, R, K)"""
    deltas: Tensor
    """(B, R, d), in the dtype of the gates."""
    tasks: tuple[int, ...]
    """(R,) the task of each read. A task may have several, or none."""
    num_tasks: int

    def gramian(self) -> Tensor:
        """(M, M) float64 inner products of the tasks' gradients, sum over b of <gate_r, gate_s> <delta_r, delta_s>;
        accumulated over k and d in at least float32, over b in float64."""
        gates, deltas = _wide(self.gates), _wide(self.deltas)
        products = torch.bmm(gates, gates.mT).mul_(torch.bmm(deltas, deltas.mT)).sum(dim=0, dtype=torch.float64)
        if self._one_read_each:
            return products
        owners = self._owners(products)
        return owners.T @ products @ owners

    def weighted_sum(self, coefficients: Tensor) -> Tensor:
        """(B, K, d) sum over m of coefficients[m], (M,) float64, times the gradient of task m."""
        if not self._one_read_each:
            coefficients = self._owners(coefficients) @ coefficients
        gates = _wide(self.gates) * coefficients.to(_wide(self.gates).dtype)[:, None]
        return torch.bmm(gates.mT, _wide(self.deltas)).to(self.deltas.dtype)

    def pooled(self) -> Tensor:
        """(M, d) float64 sums of the gradients over rows and experts."""
        sums = (self.gates.double().sum(dim=2, keepdim=True) * self.deltas).sum(dim=0)
        return sums if self._one_read_each else self._owners(sums).T @ sums

    def silent(self) -> Tensor:
        """(M,) bool, tasks whose gradient is zero."""
        norms = (_wide(self.gates).abs().sum(dim=2) * _wide(self.deltas).abs().sum(dim=2)).sum(dim=0).double()
        return (norms if self._one_read_each else self._owners(norms).T @ norms) == 0

    def per_task(self) -> tuple[Tensor | None, ...]:
        """M gradients (B, K, d), for elementwise methods."""
        gradients: list[Tensor | None] = [None] * self.num_tasks
        for read, task in enumerate(self.tasks):
            gradient = self.gates[:, read, :, None] * self.deltas[:, read, None, :]
            before = gradients[task]
            gradients[task] = gradient if before is None else before + gradient
        return tuple(gradients)

    @property
    def _one_read_each(self) -> bool:
        return self.tasks == tuple(range(self.num_tasks))

    def _owners(self, like: Tensor) -> Tensor:
        """(R, M) float64, 1 where the read is of the task."""
        return _owners(self.tasks, self.num_tasks, like.device)


TensorGradients = Sequence[Tensor | None]
"""M gradients of a tensor's shape; None for a task whose loss does not depend on the tensor."""

CutGradients = Sequence[TensorGradients | MixtureGradients]


def per_task(gradients: TensorGradients | MixtureGradients) -> TensorGradients:
    """M gradients of the tensor's shape."""
    return gradients.per_task() if isinstance(gradients, MixtureGradients) else gradients


def tensors_of(cut: CutGradients) -> Iterator[Tensor]:
    """All gradients that are not None; for mixtures their deltas."""
    for gradients in cut:
        if isinstance(gradients, MixtureGradients):
            yield gradients.deltas
        else:
            yield from (gradient for gradient in gradients if gradient is not None)


def dtypes_of(cut: CutGradients) -> set[torch.dtype]:
    """Dtypes of the gradients."""
    return {gradient.dtype for gradient in tensors_of(cut)}


def join_reads(reads: Sequence[MixtureGradients], num_tasks: int) -> MixtureGradients | tuple[None, ...]:
    """All reads of the same experts together; M times None if there are none."""
    if len(reads) < 2:
        return reads[0] if reads else (None,) * num_tasks
    return MixtureGradients(
        torch.cat([read.gates for read in reads], dim=1),
        torch.cat([read.deltas for read in reads], dim=1),
        tuple(task for read in reads for task in read.tasks),
        num_tasks,
    )


def _wide(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


@cache  # copied to a GPU once
def _owners(tasks: tuple[int, ...], num_tasks: int, device: torch.device) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(tasks), num_tasks).double().to(device)
