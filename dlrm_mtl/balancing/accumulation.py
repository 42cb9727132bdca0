"""Sums over the micro-batches of one optimizer step."""

from dataclasses import dataclass

from dlrm_mtl.balancing.algebra.arrays import Array


@dataclass(frozen=True)
class MicroBatches:
    """Sums of one rank over the micro-batches so far."""

    statistic: Array
    """(M, M) Gramian, or (M, D) pooled gradients."""
    losses: Array | None
    """(M,)"""
    count: int

    def plus(self, others: "MicroBatches") -> "MicroBatches":
        """The sums over both."""
        losses = others.losses if self.losses is None or others.losses is None else self.losses + others.losses
        return MicroBatches(_sum(self.statistic, others.statistic), losses, self.count + others.count)

    @property
    def mean_losses(self) -> Array | None:
        """(M,)"""
        return None if self.losses is None else self.losses / self.count


def _sum(first: Array, second: Array) -> Array:
    """Pooled gradients are (M, 0) where no task has a gradient."""
    return second if 0 in first.shape else first if 0 in second.shape else first + second
