"""Losses of the tasks."""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F


class TaskLosses(nn.Module):
    """Binary cross entropy of M tasks, each over the rows where it is defined.

    Args:
        reduction: "batch": f_m = (1/B) sum of the defined rows' losses, the paper's definition. "defined": divided by
            the number of defined rows of the *global* batch, scaled so that the mean over ranks of the local losses is
            the loss of the global batch; one more all-reduce of M counts per step.
        process_group: ranks that share the global batch; used by "defined" alone.
    """

    def __init__(self, reduction: str, process_group: dist.ProcessGroup | None = None) -> None:
        super().__init__()
        self.reduction = reduction
        self._process_group = process_group

    def forward(self, logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """
        Args:
            logits: (B, M).
            labels: (B, M) 0 or 1.
            weights: (B, M) 1 where the task is defined.

        Returns:
            (M,) float32 local losses.
        """
        losses = F.binary_cross_entropy_with_logits(logits.float(), labels, weight=weights, reduction="none")
        if self.reduction == "batch":
            return losses.mean(dim=0)
        return losses.sum(dim=0) / self._defined_rows_per_rank(weights)

    def _defined_rows_per_rank(self, weights: Tensor) -> Tensor:
        counts = weights.sum(dim=0)
        world_size = 1
        if dist.is_initialized():
            dist.all_reduce(counts, group=self._process_group)
            world_size = dist.get_world_size(self._process_group)
        return torch.clamp(counts, min=1) / world_size
