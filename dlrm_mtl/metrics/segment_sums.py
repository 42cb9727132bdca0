"""Normalized losses by segment, from sums over all rows.

Notation: S segments with V values in total, M tasks, K buckets.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from dlrm_mtl.metrics.bucket_sums import COLUMNS
from dlrm_mtl.metrics.buckets import bucket_of
from dlrm_mtl.metrics.evaluation import SEGMENT_BUCKETS, SegmentEvaluation
from dlrm_mtl.metrics.normalized_loss import normalized_loss_estimates
from dlrm_mtl.metrics.sums import regressions, row_sums
from dlrm_mtl.model_schema import TaskKind
from dlrm_mtl.models.ranker import Predictions
from dlrm_mtl.segments import Segment


class SegmentSums:
    """Running sums by segment and value, on the model's device, without host synchronisation."""

    def __init__(self, segments: Sequence[Segment], kinds: Sequence[TaskKind], device: torch.device) -> None:
        self._segments = segments
        self._kinds = tuple(kinds)
        self._regressions = regressions(kinds, device)
        sizes = [len(segment.values) for segment in segments]
        self._first = torch.tensor([sum(sizes[:index]) for index in range(len(sizes))], device=device)
        """(S,) place of each segment's first value."""
        self._sums = torch.zeros(SEGMENT_BUCKETS * sum(sizes), len(kinds), COLUMNS, dtype=torch.float64, device=device)
        """(K * V, M, 8)."""
        self._rows = torch.zeros(sum(sizes), dtype=torch.int64, device=device)
        """(V,) rows, whether a task is defined or not."""

    @torch.no_grad()
    def update(self, predictions: Predictions) -> None:
        """Adds a batch: (B, M) logits, labels, weights; (B,) rows; (B, 1 + S) context."""
        if not self._segments:
            return
        values = predictions.context[:, 1:] + self._first  # (B, S)
        buckets = bucket_of(predictions.context[:, 0], SEGMENT_BUCKETS)
        of_rows = row_sums(predictions.logits, predictions.labels, predictions.weights, self._regressions)
        sums = self._sums[..., : of_rows.shape[-1]]
        counts = (predictions.rows >= 0).long()
        for column in values.T:
            sums.index_add_(0, buckets * len(self._rows) + column, of_rows)
            self._rows.index_add_(0, column, counts)

    def reduce(self, group: dist.ProcessGroup) -> None:
        """Adds up the sums of all ranks, on every rank. Collective."""
        if self._segments:
            dist.all_reduce(self._sums, group=group)
            dist.all_reduce(self._rows, group=group)

    def compute(self) -> dict[str, dict[str, SegmentEvaluation]]:
        """By segment and value. Synchronises."""
        sums: Tensor = self._sums.cpu().unflatten(0, (SEGMENT_BUCKETS, -1))
        rows = self._rows.tolist()
        evaluations: dict[str, dict[str, SegmentEvaluation]] = {}
        place = 0
        for segment in self._segments:
            by_value = evaluations[segment.name] = {}
            for value in segment.values:
                estimates = normalized_loss_estimates(sums[:, place].numpy(), self._kinds)
                by_value[value] = SegmentEvaluation(rows[place], estimates)
                place += 1
        return evaluations
