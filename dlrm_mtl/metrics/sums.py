"""NE, AUC and calibration of each task, from sums over steps and ranks.

torchrec's metric modules keep per-rank state that a checkpoint cannot restore at another world size, and compute AUC
over a window of stored predictions. The tests compare these sums with them.
"""

import math

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from dlrm_mtl.balancing.kernels.cuda_graphs import CapturedStages, may_be_captured
from dlrm_mtl.metrics.bucket_sums import LOG_LOSS, POSITIVES, PREDICTED, ROWS, normalized_entropy
from dlrm_mtl.metrics.buckets import bucket_of
from dlrm_mtl.metrics.estimates import FloatArray
from dlrm_mtl.metrics.histogram import BINS, auc_of_histogram, bins_of
from dlrm_mtl.metrics.task_metrics import TaskMetrics
from dlrm_mtl.models.ranker import Predictions


class MetricSums:
    """Running sums over M tasks, on the model's device, without host synchronisation.

    Args:
        num_tasks: M.
        buckets: K; clusters of rows are hashed into K buckets with sums of their own.
    """

    def __init__(self, num_tasks: int, device: torch.device, buckets: int = 1) -> None:
        self.sums = torch.zeros(buckets, num_tasks, 4, dtype=torch.float64, device=device)
        """(K, M, 4) defined rows, positives, log loss, sum of predictions."""
        self.histogram = torch.zeros(num_tasks, 2, BINS, dtype=torch.int64, device=device)
        """(M, 2, BINS) defined rows by class and predicted logit."""
        self._captured = CapturedStages()

    @torch.no_grad()
    def update(self, predictions: Predictions, skipped: Tensor | None = None) -> None:
        """Adds a batch: (B, M) logits, labels, weights; (B, 1 + S) context if rows have buckets.

        Args:
            skipped: 0-d bool, whether the step was skipped and the batch must not count.
        """
        keys = predictions.context[:, 0] if len(self.sums) > 1 else None
        batch = predictions.logits, predictions.labels, predictions.weights, keys, skipped
        if may_be_captured(self.sums):
            self._captured(self._add_batch, batch, {}, (self.sums, self.histogram), None)
        else:
            self._add_batch(*batch)

    def _add_batch(
        self, logits: Tensor, labels: Tensor, weights: Tensor, keys: Tensor | None, skipped: Tensor | None
    ) -> None:
        if skipped is not None:
            logits, weights = logits.masked_fill(skipped, 0.0), weights.masked_fill(skipped, 0.0)
        parts = row_sums(logits, labels, weights)
        if keys is None:
            self.sums[0] += parts.sum(dim=0)
        else:
            self.sums.index_add_(0, bucket_of(keys, len(self.sums)), parts)
        tasks = torch.arange(logits.shape[1], device=logits.device)
        index = (tasks * 2 + labels.long()) * BINS + bins_of(logits)  # (B, M)
        self.histogram.view(-1).scatter_add_(0, index.view(-1), (weights > 0).long().view(-1))

    def reduce(self, group: dist.ProcessGroup) -> None:
        """Adds up the sums of all ranks, on every rank. Collective."""
        dist.all_reduce(self.sums, group=group)
        dist.all_reduce(self.histogram, group=group)

    def add(self, other: "MetricSums") -> None:
        self.sums += other.sums
        self.histogram += other.histogram

    def reset(self) -> None:
        self.sums.zero_()
        self.histogram.zero_()

    def compute(self) -> list[TaskMetrics]:
        """Metrics of each task. Synchronises."""
        totals = self.sums.sum(dim=0).cpu().numpy()
        histogram = self.histogram.cpu().numpy().astype(np.float64)
        return [_task_metrics(row, classes) for row, classes in zip(totals, histogram, strict=True)]


def row_sums(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """(B, M, 4) float64 contributions of each row to the sums, from (B, M)."""
    losses = F.binary_cross_entropy_with_logits(logits, labels, weight=weights, reduction="none")
    return torch.stack([weights, labels * weights, losses, torch.sigmoid(logits) * weights], dim=2).double()


def _task_metrics(sums: FloatArray, histogram: FloatArray) -> TaskMetrics:
    rows, positives = int(sums[ROWS]), int(sums[POSITIVES])
    ne, log_loss = float(normalized_entropy(sums)), float(sums[LOG_LOSS])
    finite = math.isfinite(log_loss)
    auc, tied_pairs = auc_of_histogram(histogram) if 0 < positives < rows and finite else (None, None)
    return TaskMetrics(
        rows=rows,
        positives=positives,
        ne=ne if math.isfinite(ne) else None,
        log_loss=log_loss / rows if rows and finite else None,
        auc=auc,
        calibration=float(sums[PREDICTED]) / positives if positives and finite else None,
        tied_pairs=tied_pairs,
    )
