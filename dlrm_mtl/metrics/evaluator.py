"""Measures a model on a split, from its predictions batch by batch."""

from dataclasses import asdict

import torch

from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.metrics.bucket_sums import log_calibration_estimates, normalized_entropy_estimates
from dlrm_mtl.metrics.buckets import BUCKETS
from dlrm_mtl.metrics.evaluation import Evaluation
from dlrm_mtl.metrics.sums import MetricSums
from dlrm_mtl.metrics.task_metrics import TaskEvaluation
from dlrm_mtl.models.ranker import Predictions


class Evaluator:
    """Takes the predictions of this rank's rows of a split, and measures those of all ranks.

    Args:
        num_tasks: M.
        device: of the model.
    """

    def __init__(self, num_tasks: int, device: torch.device) -> None:
        self._sums = MetricSums(num_tasks, device, BUCKETS)

    def update(self, predictions: Predictions) -> None:
        """Adds a batch: (B, M) logits, labels, masks; (B, 1 + S) context."""
        self._sums.update(predictions)

    def evaluate(self, ranks: Ranks) -> Evaluation:
        """What the predictions of all ranks show, on every rank. Collective."""
        self._sums.reduce(ranks.group)
        return self.compute()

    def compute(self) -> Evaluation:
        """What the predictions that are here show."""
        sums = self._sums.sums.cpu().numpy()
        return Evaluation(
            estimates={"ne": normalized_entropy_estimates(sums), "log_calibration": log_calibration_estimates(sums)},
            segments={},
            tasks=[TaskEvaluation(**asdict(metrics)) for metrics in self._sums.compute()],
            sums=sums,
        )
