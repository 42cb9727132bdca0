"""A trained model as one plain module: ids and dense values to predictions.

Notation: B rows, N dense features, F categorical features, T ids, M tasks, P products of funnels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dlrm_mtl.balancing import BalancingLayer, create_balancer
from dlrm_mtl.config import ModelConfig
from dlrm_mtl.data.batch import MultiTaskBatch
from dlrm_mtl.model_schema import ModelSchema, Task
from dlrm_mtl.models.products import Chains, predictions_of
from dlrm_mtl.models.ranker import DenseModules
from dlrm_mtl.serving.tables import FloatTables


class PlainRanker(nn.Module):
    """The ranker in evaluation mode, without sharding and oneDNN modules. Its weights are not initialised.

    Raises:
        ValueError: the configuration does not fit the schema, or a class of the user's cannot be imported.
    """

    def __init__(self, schema: ModelSchema, config: ModelConfig) -> None:
        super().__init__()
        self.tables: FloatTables | nn.Module = FloatTables(schema, config)
        self.dense_part = DenseModules(schema, config)
        # In evaluation mode it is the identity. In a tuple it is no part of this module.
        self._layer = (BalancingLayer(create_balancer("mean", len(schema.tasks))).eval(),)
        self.eval().requires_grad_(False)

    def forward(self, dense: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
        """As :class:`ServedModel`, to (B, M), see :attr:`Predictions.logits`."""
        logits = self.dense_part.head_logits(self.tables(values, lengths), dense, self._layer[0])
        return self.dense_part.task_predictions(logits)


class ServedModel(nn.Module):
    """One ranker for all tasks, or one per task, side by side.

    Args:
        tasks: M, in the order of the rankers.
        chains: the positions of each product's tasks.
    """

    def __init__(self, rankers: Sequence[PlainRanker], tasks: Sequence[Task], chains: Chains) -> None:
        super().__init__()
        self.rankers = nn.ModuleList(rankers)
        self._tasks, self._chains = tuple(tasks), chains

    def forward(self, dense: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
        """
        Args:
            dense: (B, N) float32.
            values: (T,) int64 ids, feature by feature, row by row within a feature.
            lengths: (F, B) int64 numbers of ids.

        Returns:
            (B, M + P) float32, see :func:`predictions_of`.
        """
        return predictions_of(self.logits(dense, values, lengths), self._tasks, self._chains)

    def logits(self, dense: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
        """As :meth:`forward`, to (B, M), see :attr:`Predictions.logits`."""
        return torch.cat([ranker(dense, values, lengths) for ranker in self.rankers], dim=1)


def model_inputs(batch: MultiTaskBatch) -> tuple[Tensor, Tensor, Tensor]:
    """What :meth:`ServedModel.forward` takes: dense values, ids, numbers of ids."""
    return batch.dense, batch.sparse.values().long(), batch.sparse.lengths().long().view(-1, len(batch))
