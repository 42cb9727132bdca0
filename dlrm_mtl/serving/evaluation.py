"""Normalized losses of a model for serving on a split, in one process."""

import torch

from dlrm_mtl.data.reader import EvaluationReader
from dlrm_mtl.data.source import RowSource
from dlrm_mtl.funnels import products
from dlrm_mtl.metrics.sums import MetricSums
from dlrm_mtl.model_schema import ModelSchema
from dlrm_mtl.models.products import append_kinds, append_products
from dlrm_mtl.models.ranker import Predictions
from dlrm_mtl.serving.served_model import ServedModel, model_inputs


@torch.no_grad()
def normalized_losses(
    model: ServedModel, schema: ModelSchema, source: RowSource, batch_size: int
) -> list[float | None]:
    """NE, or NMSE of a regression, of the M tasks and P products on the eval split; None where all labels are equal.

    Args:
        schema: of the model.
        source: rows of a data set with the model's tasks, in any order, and others.

    Raises:
        ValueError: rows cannot be read.
    """
    chains = tuple(products(schema.tasks).values())
    columns = [source.dataset.schema.task_names.index(task) for task in schema.task_names]
    sums = MetricSums(append_kinds(schema.task_kinds, chains), torch.device("cpu"))
    for batch in EvaluationReader(source, batch_size, rank=0, world_size=1):
        logits = model.logits(*model_inputs(batch))
        labels, weights = batch.labels[:, columns], batch.weights[:, columns]
        sums.update(append_products(Predictions(logits, labels, weights, batch.rows, batch.context), chains))
    return [metrics.normalized_loss for metrics in sums.compute()]
