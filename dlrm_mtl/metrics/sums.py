"""Metrics of each task from sums over steps and ranks: NE, AUC and calibration, or NMSE and mean errors.

torchrec's metric modules keep per-rank state that a checkpoint cannot restore at another world size, and compute AUC
over a window of stored predictions. The tests compare these sums with them.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from dlrm_mtl.balancing.kernels.cuda_graphs import CapturedStages, may_be_captured
from dlrm_mtl.metrics.bucket_sums import (
    ABSOLUTE_ERROR,
    COLUMNS,
    LABELS,
    LOSS,
    POSITIVES,
    PREDICTED,
    ROWS,
    WEIGHT,
    normalized_entropy,
)
from dlrm_mtl.metrics.buckets import bucket_of
from dlrm_mtl.metrics.estimates import FloatArray
from dlrm_mtl.metrics.histogram import BINS, auc_of_histogram, bins_of
from dlrm_mtl.metrics.regression_sums import label_variance
from dlrm_mtl.metrics.task_metrics import BinaryMetrics, RegressionMetrics, TaskMetrics
from dlrm_mtl.model_schema import TaskKind
from dlrm_mtl.models.ranker import Predictions


class MetricSums:
    """Running sums over M tasks, on the model's device, without host synchronisation.

    Args:
        kinds: (M,) of the tasks.
        buckets: K; clusters of rows are hashed into K buckets with sums of their own.
    """

    def __init__(self, kinds: Sequence[TaskKind], device: torch.device, buckets: int = 1) -> None:
        self._kinds = tuple(kinds)
        self._regressions = regressions(kinds, device)
        self.sums = torch.zeros(buckets, len(kinds), COLUMNS, dtype=torch.float64, device=device)
        """(K, M, 8), see :mod:`dlrm_mtl.metrics.bucket_sums`."""
        self.histogram = torch.zeros(len(kinds), 2, BINS, dtype=torch.float64, device=device)
        """(M, 2, BINS) weight of the defined rows by class and predicted logit; of binary tasks."""
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
        parts = row_sums(logits, labels, weights, self._regressions)
        sums = self.sums[..., : parts.shape[-1]]
        if keys is None:
            sums[0] += parts.sum(dim=0)
        else:
            sums.index_add_(0, bucket_of(keys, len(sums)), parts)
        if self._regressions is not None:
            labels, weights = (each.masked_fill(self._regressions, 0.0) for each in (labels, weights))
        tasks = torch.arange(logits.shape[1], device=logits.device)
        index = (tasks * 2 + labels.long()) * BINS + bins_of(logits)  # (B, M)
        self.histogram.view(-1).scatter_add_(0, index.view(-1), weights.double().view(-1))

    def reduce(self, group: dist.ProcessGroup) -> None:
        """Adds up the sums of all ranks, on every rank. Collective."""
        dist.all_reduce(self.sums, group=group)
        dist.all_reduce(self.histogram, group=group)

    def add(self, other: "MetricSums") -> None:
        self.sums += other.sums.to(self.sums.device)
        self.histogram += other.histogram.to(self.histogram.device)

    def reset(self) -> None:
        self.sums.zero_()
        self.histogram.zero_()

    def compute(self) -> list[TaskMetrics]:
        """Metrics of each task. Synchronises."""
        totals = self.sums.sum(dim=0).cpu().numpy()
        histogram = self.histogram.cpu().numpy()
        return [
            _regression_metrics(row) if kind == "regression" else _binary_metrics(row, classes)
            for kind, row, classes in zip(self._kinds, totals, histogram, strict=True)
        ]


def in_this_versions_columns(sums: Tensor) -> Tensor:
    """(..., 8) sums from those of a checkpoint; earlier versions had the first four columns, of rows of weight 1."""
    if sums.ndim == 0 or sums.shape[-1] != 4:
        return sums
    return torch.cat([sums, sums[..., :2], torch.zeros_like(sums[..., :2])], dim=-1)


def regressions(kinds: Sequence[TaskKind], device: torch.device) -> Tensor | None:
    """(M,) bool, which tasks are regressions; None if none is."""
    if "regression" not in kinds:
        return None
    return torch.tensor([kind == "regression" for kind in kinds], device=device)


def row_sums(logits: Tensor, labels: Tensor, weights: Tensor, regressions: Tensor | None) -> Tensor:
    """(B, M, C) float64 contributions of each row to the first C sums, from (B, M): all 8 with regressions, else 6."""
    if regressions is not None:
        logits, labels, weights = logits.double(), labels.double(), weights.double()
    losses = F.binary_cross_entropy_with_logits(logits, labels, weight=weights, reduction="none")
    predicted, positives = torch.sigmoid(logits), labels * (weights > 0)
    of_regressions = []
    if regressions is not None:
        errors = logits - labels
        losses = torch.where(regressions, errors.square() * weights, losses)
        predicted = torch.where(regressions, logits, predicted)
        positives = positives.masked_fill(regressions, 0.0)
        of_regressions = [labels.square() * weights, errors.abs() * weights]
    columns = [weights, labels * weights, losses, predicted * weights, (weights > 0).to(weights.dtype), positives]
    return torch.stack([*columns, *of_regressions], dim=2).double()


def _binary_metrics(sums: FloatArray, histogram: FloatArray) -> BinaryMetrics:
    rows, positives = int(sums[ROWS]), int(sums[POSITIVES])
    ne, log_loss = float(normalized_entropy(sums)), float(sums[LOSS])
    finite = math.isfinite(log_loss)
    auc, tied_pairs = auc_of_histogram(histogram) if 0 < positives < rows and finite else (None, None)
    is_weighted = (sums[WEIGHT], sums[LABELS]) != (rows, positives)
    return BinaryMetrics(
        rows=rows,
        positives=positives,
        ne=_finite(ne),
        log_loss=log_loss / float(sums[WEIGHT]) if rows and finite else None,
        auc=auc,
        calibration=float(sums[PREDICTED] / sums[LABELS]) if positives and finite else None,
        tied_pairs=tied_pairs,
        weight=float(sums[WEIGHT]) if is_weighted else None,
        positive_weight=float(sums[LABELS]) if is_weighted else None,
    )


def _regression_metrics(sums: FloatArray) -> RegressionMetrics:
    with np.errstate(divide="ignore", invalid="ignore"):
        variance, error = float(label_variance(sums)), sums[LOSS] / sums[WEIGHT]
        return RegressionMetrics(
            rows=int(sums[ROWS]),
            weight=float(sums[WEIGHT]),
            nmse=_finite(error / variance),
            squared_error=_finite(error),
            mae=_finite(sums[ABSOLUTE_ERROR] / sums[WEIGHT]),
            mean_error=_finite((sums[PREDICTED] - sums[LABELS]) / sums[WEIGHT]),
            label_mean=_finite(sums[LABELS] / sums[WEIGHT]),
            label_variance=_finite(variance),
        )


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
