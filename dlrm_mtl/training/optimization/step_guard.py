"""Skips the update of a step whose gradients are not finite, and counts such steps.

All ranks reach the same decision by themselves, since averaged gradients that are not finite on one rank are so on all.
A gradient or loss that is not finite at the balancing layer makes everything below it NaN. One that arises further
down, in the dense part or a table, is seen by that part's guard only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torchrec.optim.keyed import CombinedOptimizer, KeyedOptimizer, OptimizerWrapper

from dlrm_mtl.balancing.kernels.cuda_graphs import CapturedStages, may_be_captured


@dataclass(frozen=True)
class SkippedSteps:
    """Steps that were skipped since the last count."""

    count: int
    longest_run: int
    """Maximum of consecutive skipped steps, including those before the last count."""


class StepGuard:
    """Decides once per step, without host synchronisation, whether parameters are updated after backward: not if a
    gradient is not finite.

    Args:
        parameters: those whose gradients are checked.
    """

    def __init__(self, parameters: Sequence[Tensor], device: torch.device) -> None:
        self.device = device
        self.skipped = torch.zeros((), dtype=torch.bool, device=device)
        """0-d, whether the present step is skipped; the next one may overwrite it."""
        self._parameters = list(parameters)
        self._count, self._run, self._longest_run = torch.zeros(3, dtype=torch.int64, device=device).unbind()
        self._captured = CapturedStages()

    def check(self) -> None:
        """Looks at the gradients, after backward. A norm beyond the gradients' dtype counts as not finite too."""
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        norm = get_total_norm(gradients).to(self.device)
        if may_be_captured(norm):
            counts = self._count, self._run, self._longest_run
            self.skipped = self._captured(self._count_step, (norm,), {}, counts, None)
        else:
            self.skipped = self._count_step(norm)

    def _count_step(self, norm: Tensor) -> Tensor:
        skipped = ~torch.isfinite(norm)
        self._count += skipped
        self._run += 1
        self._run *= skipped
        torch.maximum(self._longest_run, self._run, out=self._longest_run)
        return skipped

    @property
    def run(self) -> Tensor:
        """0-d int64, the steps skipped in a row until now; part of a checkpoint."""
        return self._run

    def take_counts(self) -> SkippedSteps:
        """The steps skipped since the last call. Synchronises."""
        counts = SkippedSteps(int(self._count), int(self._longest_run))
        self._count.zero_()
        self._longest_run.zero_()
        return counts


class HostSkippingOptimizer(OptimizerWrapper):
    """Skips the step if the guard says so; for a CPU, where the host can read it."""

    def __init__(self, optimizer: KeyedOptimizer, guard: StepGuard) -> None:
        super().__init__(optimizer)
        self._guard = guard

    def step(self, closure: Any = None) -> None:
        if not self._guard.skipped:
            super().step(closure)


class DeviceSkippingOptimizer(OptimizerWrapper):
    """Always steps, without effect if the guard says so: by the mechanism of fused optimizers for GradScalers, which
    keeps parameters and state; or by zero gradients, which is the same for (row-wise) Adagrad without weight decay.

    Args:
        optimizer: wraps ``kernel``, which does the updates.
    """

    def __init__(self, optimizer: KeyedOptimizer, kernel: torch.optim.Optimizer, guard: StepGuard) -> None:
        super().__init__(optimizer)
        self._kernel = kernel
        self._guard = guard

    def step(self, closure: Any = None) -> None:
        if self._kernel.defaults.get("fused"):
            self._kernel.found_inf = self._guard.skipped.float()  # type: ignore[attr-defined]
        else:
            for parameter in self.params.values():
                if parameter.grad is not None:
                    parameter.grad.masked_fill_(self._guard.skipped, 0.0)
        super().step(closure)


class GuardedOptimizers(CombinedOptimizer):
    """Optimizers of a model's parts that step together, or not at all.

    Schedules also count skipped steps.

    Args:
        optimizers: by name; those that update after backward skip what ``guard`` says.
    """

    def __init__(self, optimizers: Sequence[tuple[str, KeyedOptimizer]], guard: StepGuard) -> None:
        super().__init__(list(optimizers))
        self.guard = guard

    def step(self, closure: Any = None) -> None:
        self.guard.check()
        super().step(closure)
