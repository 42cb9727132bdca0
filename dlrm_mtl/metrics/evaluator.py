"""Evaluates a model on a split from batches of its predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import torch

from dlrm_mtl.data.context import Context
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.metrics.buckets import BUCKETS
from dlrm_mtl.metrics.estimates import join_metrics
from dlrm_mtl.metrics.evaluation import Evaluation
from dlrm_mtl.metrics.normalized_loss import sum_estimates
from dlrm_mtl.metrics.predictions.kept import LIMIT, KeptPredictions, Sample
from dlrm_mtl.metrics.predictions.task_evaluation import MeasuredTask, TaskMeasurement
from dlrm_mtl.metrics.segment_sums import SegmentSums
from dlrm_mtl.metrics.sums import MetricSums
from dlrm_mtl.model_schema import Task
from dlrm_mtl.models.products import Chains, append_kinds, append_products, append_terms
from dlrm_mtl.models.ranker import Predictions


class Evaluator:
    """Collects the predictions of this rank's rows of a split, and evaluates those of all ranks.

    Normalized losses, errors of the mean prediction and segments come from sums over all rows; other metrics from
    single predictions that are kept.

    Args:
        tasks: M.
        context: describes the context columns.
        batch_size: maximum number of rows of a batch, over all ranks.
        device: of the model.
        ranks: the ranks that share the split; None if this process has all of it.
        limit: see :class:`KeptPredictions`.
        products: P chains of tasks whose products are evaluated too, see :func:`dlrm_mtl.funnels.products`.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        context: Context,
        batch_size: int,
        device: torch.device,
        ranks: Ranks | None = None,
        limit: int = LIMIT,
        products: Mapping[str, Sequence[int]] = MappingProxyType({}),
    ) -> None:
        kinds = [task.kind for task in tasks]
        self._num_tasks = len(tasks)
        self._products = products
        self._chains = tuple(products.values())
        self._kinds = append_kinds(kinds, self._chains)
        self._sums = MetricSums(self._kinds, device, BUCKETS)
        self._segments = SegmentSums(context.segments, kinds, device)
        self._kept = KeptPredictions(tasks, batch_size, limit)
        self._context = context
        self._ranks = ranks

    def update(self, predictions: Predictions) -> None:
        """Adds a batch: (B, M) logits, labels, weights; (B,) rows; (B, 1 + S) context. Collective."""
        self._sums.update(append_products(predictions, self._chains))
        self._segments.update(predictions)
        self._kept.add(predictions, self._ranks)

    def evaluate(self) -> Evaluation:
        """The evaluation over all ranks, on every rank. Collective: rank 0 computes it task by task; the watch is
        paused afterwards."""
        ranks = self._ranks
        if ranks is not None:
            self._sums.reduce(ranks.group)
            self._segments.reduce(ranks.group)
            ranks.watch.progress("gathering predictions", 0)
        sample = self._kept.gather(ranks)
        measurement = None
        if sample is not None:
            measurement = TaskMeasurement(_with_products(sample, self._chains), bool(self._context.cluster))
        sums = self._sums.sums.cpu().numpy()
        measured: list[MeasuredTask] = []
        for task, metrics in enumerate(self._sums.compute()):
            if ranks is not None:
                ranks.watch.progress("metrics", task)
            measured_task = None
            if measurement is not None:
                of_sums = sum_estimates(sums[:, [task]], self._kinds[task])
                measured_task = measurement.measure(task, metrics, of_sums)
            if ranks is not None:
                measured_task = ranks.broadcast(measured_task)
            assert measured_task is not None
            measured.append(measured_task)
        if ranks is not None:
            ranks.watch.pause()
        tasks, products = slice(self._num_tasks), slice(self._num_tasks, None)
        numbers = [task.numbers for task in measured]
        return Evaluation(
            join_metrics([task.estimates for task in measured[tasks]]),
            self._segments.compute(),
            join_metrics([task.estimates for task in measured[products]]),
            tasks=numbers[tasks],
            products=dict(zip(self._products, numbers[products], strict=True)),
            sums=sums[:, tasks],
        )


def _with_products(sample: Sample, chains: Chains) -> Sample:
    """A sample of M tasks to one of M + P."""
    if not chains:
        return sample
    logits, labels, weights = (torch.from_numpy(each) for each in (sample.logits, sample.labels, sample.weights))
    terms = append_terms(logits, labels.float(), weights.float(), chains)
    return replace(
        sample,
        logits=terms.logits.numpy(),
        labels=terms.labels.to(labels.dtype).numpy(),
        weights=terms.weights.to(weights.dtype).numpy(),
    )
