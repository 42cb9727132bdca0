"""Losses of the tasks.

Notation: B batch, M tasks.
"""

import math
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from dlrm_mtl.model_schema import Task


class TaskLosses(nn.Module):
    """Losses of M tasks, each a sum of w l over the rows where it is defined, with the row's weight w.

    l is the binary cross entropy, and of a regression task e^2 / 2 of the error e in deviations; with Huber's threshold
    h (Huber, "Robust Estimation of a Location Parameter", 1964) it is h (|e| - h / 2) where |e| is above h.

    Args:
        reduction: "batch": f_m = (1/B) sum of w l, the paper's definition; weights of mean 1 keep its scale. "defined":
            divided by the sum of the weights over the *global* batch, scaled so that the mean over ranks of the local
            losses is the loss of the global batch; one more all-reduce of M sums per step.
        process_group: ranks that share the global batch; used by "defined" alone.
    """

    _thresholds: Tensor
    _is_regression: Tensor

    def __init__(self, tasks: Sequence[Task], reduction: str, process_group: dist.ProcessGroup | None = None) -> None:
        super().__init__()
        self.reduction = reduction
        self._process_group = process_group
        self._has_regressions = any(task.kind == "regression" for task in tasks)
        if self._has_regressions:
            thresholds = [math.inf if task.huber is None else task.huber for task in tasks]
            self.register_buffer("_thresholds", torch.tensor(thresholds), persistent=False)
            is_regression = [task.kind == "regression" for task in tasks]
            self.register_buffer("_is_regression", torch.tensor(is_regression), persistent=False)

    def forward(self, logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """
        Args:
            logits: (B, M) log-odds, and standardised predictions of regression tasks.
            labels: (B, M) 0 or 1, and standardised labels.
            weights: (B, M) the row's weight where the task is defined, else 0.

        Returns:
            (M,) float32 local losses.
        """
        logits = logits.float()
        losses = F.binary_cross_entropy_with_logits(logits, labels, weight=weights, reduction="none")
        if self._has_regressions:
            errors = (logits - labels).abs()
            within = torch.minimum(errors, self._thresholds)
            losses = torch.where(self._is_regression, weights * within * (errors - within / 2), losses)
        if self.reduction == "batch":
            return losses.mean(dim=0)
        return losses.sum(dim=0) / self._weights_per_rank(weights)

    def _weights_per_rank(self, weights: Tensor) -> Tensor:
        sums = weights.sum(dim=0)
        world_size = 1
        if dist.is_initialized():
            dist.all_reduce(sums, group=self._process_group)
            world_size = dist.get_world_size(self._process_group)
        return torch.where(sums > 0, sums, 1.0) / world_size
