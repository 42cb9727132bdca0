"""Trains and evaluates one arm, window by window."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torchrec.distributed.train_pipeline import EvalPipelineSparseDist, TrainPipelineSparseDist
from torchrec.distributed.types import ShardingPlan

from dlrm_mtl.config import RunConfig
from dlrm_mtl.data.batch import MultiTaskBatch
from dlrm_mtl.data.dataset import Dataset
from dlrm_mtl.data.reader import EvaluationReader, TrainingReader, batches
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.recipe import Recipe
from dlrm_mtl.training.arm import build_arm
from dlrm_mtl.training.diagnostics import balancing_diagnostics
from dlrm_mtl.training.metrics import MetricSums, TaskMetrics

EVALUATION_BUCKETS = 1000
"""Buckets of eval rows that the paired bootstrap resamples."""


@dataclass(frozen=True)
class Window:
    """Some consecutive training steps."""

    first_step: int
    last_step: int
    """Exclusive: the number of steps trained after this window."""
    qps: float | None
    """Global samples per second of the timed steps; None if there were none."""
    metrics: list[TaskMetrics]
    """Over the window's rows, by task."""
    lifetime: list[TaskMetrics]
    """Over all rows so far, as predicted when they were trained on."""
    balancing: dict[str, Any]
    """See :func:`balancing_diagnostics`; of the window's last step."""


class Trainer:
    """Builds an arm and trains it.

    Control and treatment differ in the balancer alone: initial weights and data order are functions of the seed.

    Args:
        recipe: the arm's balancing method.
        seed: of initial weights and data order.

    Raises:
        ValueError: a configuration that does not fit data set, method or device.
    """

    def __init__(
        self, config: RunConfig, recipe: Recipe, seed: int, dataset: Dataset, plan: ShardingPlan, ranks: Ranks
    ) -> None:
        self._config = config
        self._dataset = dataset
        self._ranks = ranks
        self._local_batch_size = config.local_batch_size(ranks.world_size)
        self.arm = build_arm(config, recipe, seed, dataset.schema, plan, ranks)
        self.pipeline = TrainPipelineSparseDist(
            self.arm.model, self.arm.optimizer, ranks.device, execute_all_batches=True
        )
        self._reader = TrainingReader(
            dataset, self._local_batch_size, seed, ranks.rank, ranks.world_size, config.reader.shuffle_rows
        )
        self.total_steps = config.epochs * self._reader.steps
        if config.max_steps is not None:
            self.total_steps = min(self.total_steps, config.max_steps)
        self.rows_dropped_per_epoch = self._reader.rows_dropped
        self.step = 0
        self._batches = islice(self._epochs(), self.total_steps)
        self._window = MetricSums(len(dataset.schema.tasks), ranks.device)
        self._lifetime = MetricSums(len(dataset.schema.tasks), torch.device("cpu"))

    @property
    def done(self) -> bool:
        return self.step >= self.total_steps

    def train_window(self, steps: int) -> Window:
        """Trains up to ``steps`` steps, fewer at the end of the data. Collective.

        All steps but the last are timed, between two synchronisations. In the last one every arm, the control too,
        records its gradients' Gramian, which is no part of the control's cost.
        """
        first = self.step
        steps = min(steps, self.total_steps - first)
        self.arm.model.train()
        self._ranks.synchronize()
        start = time.perf_counter()
        for _ in range(steps - 1):
            self._train_step()
        self._ranks.synchronize()
        seconds = time.perf_counter() - start
        self.arm.balancing.observe()
        self._train_step()

        self._window.reduce(self._ranks.group)
        window = self._window.compute()
        reduced = MetricSums(len(window), torch.device("cpu"))
        reduced.sums, reduced.histogram = self._window.sums.cpu(), self._window.histogram.cpu()
        self._lifetime.add(reduced)
        self._window.reset()
        self._ranks.watch.pause()
        return Window(
            first_step=first,
            last_step=self.step,
            qps=(steps - 1) * self._config.batch_size / seconds if steps > 1 else None,
            metrics=window,
            lifetime=self._lifetime.compute(),
            balancing=balancing_diagnostics(self.arm.balancing),
        )

    def evaluate(self) -> MetricSums:
        """Metrics over the whole eval split, reduced over ranks, in buckets of rows. Collective."""
        model = self.pipeline.detach()
        model.eval()
        sums = MetricSums(len(self._dataset.schema.tasks), self._ranks.device, EVALUATION_BUCKETS)
        reader = EvaluationReader(self._dataset, self._local_batch_size, self._ranks.rank, self._ranks.world_size)
        pipeline = EvalPipelineSparseDist(model, self.arm.optimizer, self._ranks.device)
        iterator = iter(batches(reader, self._config.reader, self._pin_memory))
        with torch.no_grad():
            for batch in range(len(reader)):
                self._ranks.watch.progress("evaluation", batch)
                sums.update(pipeline.progress(iterator))
        pipeline.detach()
        sums.reduce(self._ranks.group)
        self._ranks.synchronize()
        self._ranks.watch.pause()
        self.pipeline.attach(model)
        model.train()
        return sums

    def _train_step(self) -> None:
        self._ranks.watch.progress("training", self.step)
        self._window.update(self.pipeline.progress(self._batches))
        self.step += 1

    def _epochs(self) -> Iterator[MultiTaskBatch]:
        for epoch in range(self._config.epochs):
            self._reader.set_epoch(epoch)
            yield from batches(self._reader, self._config.reader, self._pin_memory)

    @property
    def _pin_memory(self) -> bool:
        return self._ranks.device.type == "cuda"
