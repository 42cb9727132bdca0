"""What changes with every step of a layer."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dlrm_mtl.balancing.accumulation import MicroBatches
from dlrm_mtl.balancing.cpu_step import CpuDecision
from dlrm_mtl.balancing.exchange.reduction import PendingGramian, PendingReduction
from dlrm_mtl.balancing.record import BalancingRecord
from dlrm_mtl.balancing.tensor_steps import Decision


@dataclass
class StepState:
    """Not of the module itself, whose attributes take long to set."""

    losses: Tensor | None = None
    """(M,) of this rank, for the next backward."""
    observe: bool = False
    """Whether the next backward is to record the Gramian in any case."""
    record: BalancingRecord | CpuDecision | None = None
    pending: PendingReduction | PendingGramian | None = None
    """Of "delayed": what the next step's coefficients come from."""
    coefficients: Tensor | list[float] | None = None
    """Of "delayed": those of the step before, (M,)."""

    accumulating: bool = False
    """Whether the next backward is of a micro-batch that is not its step's last."""
    accumulated: MicroBatches | None = None
    """Of the step under way, if it has had micro-batches."""
    decision: Decision | None = None
    """By which these were weighed."""

    def coefficients_on(self, device: torch.device) -> Tensor | None:
        if self.coefficients is None:
            return None
        return torch.as_tensor(self.coefficients, dtype=torch.float64, device=device)

    def coefficients_in_floats(self) -> list[float] | None:
        return self.coefficients.tolist() if isinstance(self.coefficients, Tensor) else self.coefficients
