"""What the micro-batches of one optimizer step add up to."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class MicroBatches:
    """Of one rank, so far."""

    statistic: Tensor
    """(M, M) Gramian, or (M, D) pooled gradients: rows of micro-batches are rows of one batch, so theirs add up."""
    losses: Tensor | None
    """(M,) sums of the micro-batches' losses."""
    count: int

    def plus(self, statistic: Tensor, losses: Tensor | None) -> "MicroBatches":
        """With one more."""
        total = losses if self.losses is None or losses is None else self.losses + losses
        return MicroBatches(_sum(self.statistic, statistic), total, self.count + 1)

    @property
    def mean_losses(self) -> Tensor | None:
        """(M,)"""
        return None if self.losses is None else self.losses / self.count


def _sum(first: Tensor, second: Tensor) -> Tensor:
    """Pooled gradients of a batch without any have no width."""
    return second if 0 in first.shape else first if 0 in second.shape else first + second
