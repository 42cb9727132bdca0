"""One arm: a sharded model, its optimizer and pipeline, trained window by window."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import nn
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.distributed.train_pipeline import EvalPipelineSparseDist, TrainPipelineSparseDist
from torchrec.distributed.types import ShardingPlan

from dlrm_mtl.balancing import BalancingLayer, create_balancer
from dlrm_mtl.config import RunConfig
from dlrm_mtl.data.batch import MultiTaskBatch
from dlrm_mtl.data.dataset import Dataset
from dlrm_mtl.data.reader import EvaluationReader, TrainingReader, batches
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.distributed.sharding import plan_sharding, sharders
from dlrm_mtl.distributed.tables import initialize_tables
from dlrm_mtl.models.embeddings import build_embedding_bags
from dlrm_mtl.models.losses import TaskLosses
from dlrm_mtl.models.ranker import build_ranker
from dlrm_mtl.recipe import Recipe
from dlrm_mtl.training.diagnostics import balancing_diagnostics
from dlrm_mtl.training.metrics import MetricSums, TaskMetrics
from dlrm_mtl.training.optimizers import apply_table_optimizer, build_optimizer

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
    """Over all rows so far, each predicted before it was trained on."""
    balancing: dict[str, Any]
    """See :func:`balancing_diagnostics`; of the window's last step."""


def make_plan(config: RunConfig, dataset: Dataset, ranks: Ranks) -> ShardingPlan:
    """The sharding plan of a run, shared by all its arms and seeds. Collective.

    Raises:
        ValueError: no plan fits, or an option does not suit the device.
    """
    tables = build_embedding_bags(dataset.schema, config.model)
    apply_table_optimizer(tables, config.optimizer, ranks.device)
    return plan_sharding(
        nn.ModuleDict({"embedding_bags": tables}),
        dataset.schema,
        config.sharding,
        config.optimizer.table,
        config.local_batch_size(ranks.world_size),
        ranks,
    )


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
        schema = dataset.schema
        self._config = config
        self._dataset = dataset
        self._ranks = ranks
        self._local_batch_size = config.local_batch_size(ranks.world_size)
        self.balancing = build_balancing(recipe, schema.task_names, ranks)
        ranker = build_ranker(
            schema,
            config.model,
            self.balancing,
            TaskLosses(config.loss_reduction, ranks.group),
            seed,
            ranks.device,
            config.bf16,
        )
        apply_table_optimizer(ranker.embedding_bags, config.optimizer, ranks.device)
        self.model = DistributedModelParallel(ranker, device=ranks.device, plan=plan, sharders=sharders())
        initialize_tables(self.model, seed)
        self._optimizer = build_optimizer(self.model, config.optimizer)
        self.pipeline = TrainPipelineSparseDist(self.model, self._optimizer, ranks.device, execute_all_batches=True)
        self._reader = TrainingReader(
            dataset, self._local_batch_size, seed, ranks.rank, ranks.world_size, config.reader.shuffle_rows
        )
        self.total_steps = config.epochs * self._reader.steps
        if config.max_steps is not None:
            self.total_steps = min(self.total_steps, config.max_steps)
        self.rows_dropped_per_epoch = self._reader.rows_dropped
        self.step = 0
        self._batches = islice(self._epochs(), self.total_steps)
        self._window = MetricSums(len(schema.tasks), ranks.device)
        self._lifetime = MetricSums(len(schema.tasks), torch.device("cpu"))

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
        self.model.train()
        self._ranks.synchronize()
        start = time.perf_counter()
        for _ in range(steps - 1):
            self._train_step()
        self._ranks.synchronize()
        seconds = time.perf_counter() - start
        self.balancing.observe()
        self._train_step()

        self._window.reduce(self._ranks.group)
        window = self._window.compute()
        reduced = MetricSums(len(window), torch.device("cpu"))
        reduced.sums, reduced.histogram = self._window.sums.cpu(), self._window.histogram.cpu()
        self._lifetime.add(reduced)
        self._window.reset()
        return Window(
            first_step=first,
            last_step=self.step,
            qps=(steps - 1) * self._config.batch_size / seconds if steps > 1 else None,
            metrics=window,
            lifetime=self._lifetime.compute(),
            balancing=balancing_diagnostics(self.balancing),
        )

    def evaluate(self) -> MetricSums:
        """Metrics over the whole eval split, reduced over ranks, in buckets of rows. Collective."""
        model = self.pipeline.detach()
        model.eval()
        sums = MetricSums(len(self._dataset.schema.tasks), self._ranks.device, EVALUATION_BUCKETS)
        reader = EvaluationReader(self._dataset, self._local_batch_size, self._ranks.rank, self._ranks.world_size)
        pipeline = EvalPipelineSparseDist(model, self._optimizer, self._ranks.device)
        iterator = iter(batches(reader, self._config.reader, self._pin_memory))
        with torch.no_grad():
            for _ in range(len(reader)):
                sums.update(pipeline.progress(iterator))
        pipeline.detach()
        sums.reduce(self._ranks.group)
        self.pipeline.attach(model)
        model.train()
        return sums

    def _train_step(self) -> None:
        self._window.update(self.pipeline.progress(self._batches))
        self.step += 1

    def _epochs(self) -> Iterator[MultiTaskBatch]:
        for epoch in range(self._config.epochs):
            self._reader.set_epoch(epoch)
            yield from batches(self._reader, self._config.reader, self._pin_memory)

    @property
    def _pin_memory(self) -> bool:
        return self._ranks.device.type == "cuda"


def build_balancing(recipe: Recipe, task_names: tuple[str, ...], ranks: Ranks | None = None) -> BalancingLayer:
    """The balancing layer of an arm.

    Raises:
        ValueError: unknown method, option or reduction.
    """
    balancer = create_balancer(recipe.method, len(task_names), task_names=task_names, **recipe.options)
    layer = BalancingLayer(balancer, ranks.group if ranks else None, recipe.reduction)  # type: ignore[arg-type]
    return layer.to(ranks.device) if ranks else layer
