"""What the micro-batches of one optimizer step add up to."""

from dataclasses import dataclass

from dlrm_mtl.balancing.algebra.arrays import Array


@dataclass(frozen=True)
class MicroBatches:
    """Of one rank, so far."""

    statistic: Array
    """(M, M) Gramian, or (M, D) pooled gradients: rows of micro-batches are rows of one batch, so theirs add up."""
    losses: Array | None
    """(M,) sums of the micro-batches' losses."""
    count: int

    def plus(self, others: "MicroBatches") -> "MicroBatches":
        """Both together."""
        losses = others.losses if self.losses is None or others.losses is None else self.losses + others.losses
        return MicroBatches(_sum(self.statistic, others.statistic), losses, self.count + others.count)

    @property
    def mean_losses(self) -> Array | None:
        """(M,)"""
        return None if self.losses is None else self.losses / self.count


def _sum(first: Array, second: Array) -> Array:
    """Pooled gradients of a batch without any have no width."""
    return second if 0 in first.shape else first if 0 in second.shape else first + second
