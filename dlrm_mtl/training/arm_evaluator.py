"""Evaluates an arm between two steps of its training."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

import torch
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from dlrm_mtl.data.context import Context
from dlrm_mtl.data.new_ids import Ids
from dlrm_mtl.data.reader import EvaluationReader
from dlrm_mtl.data.source import RowSource
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.funnels import products
from dlrm_mtl.metrics.evaluation import Evaluation
from dlrm_mtl.metrics.evaluator import Evaluator
from dlrm_mtl.metrics.sums import MetricSums
from dlrm_mtl.metrics.task_metrics import TaskMetrics
from dlrm_mtl.models.products import append_kinds, append_products
from dlrm_mtl.models.ranker import Predictions
from dlrm_mtl.run_config import RunConfig
from dlrm_mtl.training.pipeline import predict


class ArmEvaluator:
    """Evaluates the model in a train pipeline on the split of the data set that is evaluated. Every method is
    collective.

    Args:
        pipeline: between two windows.
    """

    def __init__(self, config: RunConfig, source: RowSource, pipeline: TrainPipelineSparseDist, ranks: Ranks) -> None:
        self._config = config
        self._source = source
        self._pipeline = pipeline
        self._ranks = ranks
        self._schema = source.dataset.schema
        self._new_tasks: list[int] = []
        self._products = products(self._schema.tasks)

    def withhold(self, new_ids: Mapping[str, Ids], new_tasks: Collection[str]) -> None:
        """Makes evaluations fair to a model that has seen none of the data set's rows.

        Args:
            new_ids: by table, ids that are read as values never seen: without these rows they would not have them.
            new_tasks: tasks without metrics, since their heads begin at the base rates of these rows.
        """
        self._source = self._source.with_unseen(new_ids)
        self._new_tasks = [index for index, task in enumerate(self._schema.task_names) if task in new_tasks]
        self._products = {
            name: chain for name, chain in self._products.items() if not set(chain) & set(self._new_tasks)
        }

    def evaluate(self, rows: bool = True) -> Evaluation:
        """The full evaluation, on every rank.

        Args:
            rows: False: as if the split had no row.
        """
        evaluator = Evaluator(
            self._schema.tasks,
            Context.of(self._schema, self._config.segments),
            self._config.batch_size,
            self._ranks.device,
            self._ranks,
            products=self._products,
        )
        for predictions in self.predictions() if rows else ():
            evaluator.update(predictions)
        return evaluator.evaluate()

    def metrics(self) -> tuple[list[TaskMetrics], dict[str, TaskMetrics]]:
        """Metrics that are sums over rows, on every rank, for evaluations during training: of the tasks, and of their
        products by name."""
        tasks, chains = len(self._schema.tasks), tuple(self._products.values())
        sums = MetricSums(append_kinds(self._schema.task_kinds, chains), self._ranks.device)
        for predictions in self.predictions():
            sums.update(append_products(predictions, chains))
        sums.reduce(self._ranks.group)
        self._ranks.synchronize()
        self._ranks.watch.pause()
        metrics = sums.compute()
        return metrics[:tasks], dict(zip(self._products, metrics[tasks:], strict=True))

    def predictions(self) -> Iterator[Predictions]:
        """The predictions of this rank's rows, batch by batch."""
        model = self._pipeline.detach()
        model.eval()
        ranks = self._ranks
        reader = EvaluationReader(
            self._source,
            self._config.local_batch_size(ranks.world_size),
            ranks.rank,
            ranks.world_size,
            self._config.segments,
        )
        defined = torch.ones(len(self._schema.tasks), device=ranks.device)
        defined[self._new_tasks] = 0
        for predictions in predict(model, reader, self._config.reader, ranks):
            yield replace(predictions, weights=predictions.weights * defined)
        self._pipeline.attach(model)
        model.train()
