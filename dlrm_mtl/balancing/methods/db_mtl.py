"""DB-MTL (Lin et al., "Dual-Balancing for Multi-Task Learning", 2023, arXiv:2308.12029)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dlrm_mtl.balancing.algebra.arrays import (
    Array,
    ascending,
    at_least,
    counts,
    like,
    namespace,
    norms_of,
    ratio,
)
from dlrm_mtl.balancing.algebra.gradient_averages import advance_averages
from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.options import is_number, require_option

TARGETS = ("max", "min", "median", "mean")


class DBMTL(Balancer):
    """All gradients are scaled to one norm: w_m = t / (M n_m), where t is the largest, smallest, median or mean norm.

    At the representation, as the MultiBalance paper runs it: norms of the flattened gradients of the losses themselves.
    The DB-MTL paper also takes the logarithm of the losses, and averages gradients over steps; both are options. The
    median of an even number of tasks is the mean of the middle two. A task without a gradient is not counted.

    Args:
        target: t.
        log_losses: balance the gradients of log f_m, that is g_m / f_m.
        average: share of the past in moving averages of the batch-pooled gradients, whose norms then replace n_m; 0 for
            no averages. They start at the first gradient.

    Raises:
        ValueError: an option out of its range.
    """

    portable = True

    def __init__(
        self,
        num_tasks: int,
        target: str = "max",
        log_losses: bool = False,
        average: float = 0.0,
        task_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(num_tasks, task_names)
        require_option(self, "target", target, target in TARGETS, f"one of {', '.join(TARGETS)}")
        require_option(self, "log_losses", log_losses, isinstance(log_losses, bool), "true or false")
        require_option(self, "average", average, is_number(average) and 0 <= average < 1, "a number in [0, 1)")
        self.target = target
        self.needs_losses = log_losses
        self.average = average
        self.averages: Tensor
        if average:
            self.measures = "pooled"  # type: ignore[misc]
            # The first step sets the width.
            self.register_task_state("averages", torch.zeros(num_tasks, 0, device="cpu"))

    def coefficients(self, statistic: Array, losses: Array | None) -> tuple[Array, dict[str, Array]]:
        xp = namespace(statistic)
        scale: Array = 1.0 if losses is None else 1 / at_least(losses, 1e-12)
        state: dict[str, Array] = {}
        if self.average:
            scaled = statistic if losses is None else statistic * scale[:, None]
            averages = advance_averages(like(statistic, self.averages), scaled, 1 - self.average)
            state["averages"] = averages
            norms = xp.sqrt((averages * averages).sum(axis=1))
        else:
            norms = norms_of(statistic) * scale
        weights = ratio(self._reference(norms) * scale, norms) / self.num_tasks
        return weights, state

    def _reference(self, norms: Array) -> Array:
        """t, 0-d, over the tasks with a gradient."""
        xp, active = namespace(norms), norms > 0
        if self.target == "max":
            return norms.max()
        if self.target == "min":
            return xp.where(active, norms, xp.inf).min()
        count = active.sum()
        if self.target == "mean":
            return norms.sum() / at_least(count, 1)
        sorted_norms, places = ascending(xp.where(active, norms, xp.inf)), counts(norms) - 1
        middle = (at_least(count - 1, 0) // 2, count // 2)
        return sum(xp.where(places == place, sorted_norms, 0.0).sum() for place in middle) / 2
