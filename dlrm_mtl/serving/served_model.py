"""A trained model as one plain module: ids and dense values to probabilities.

Notation: B rows, N dense features, F categorical features, T ids, M tasks, P products of funnels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dlrm_mtl.balancing import BalancingLayer, create_balancer
from dlrm_mtl.config import ModelConfig
from dlrm_mtl.data.batch import MultiTaskBatch
from dlrm_mtl.model_schema import ModelSchema
from dlrm_mtl.models.products import Chains, append_logits
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
        """As :class:`ServedModel`, to logits (B, M)."""
        logits = self.dense_part.head_logits(self.tables(values, lengths), dense, self._layer[0])
        return self.dense_part.relation.task_logits(logits)


class ServedModel(nn.Module):
    """One ranker for all tasks, or one per task, side by side.

    Args:
        chains: the positions of each product's tasks.
    """

    def __init__(self, rankers: Sequence[PlainRanker], chains: Chains) -> None:
        super().__init__()
        self.rankers = nn.ModuleList(rankers)
        self._chains = chains

    def forward(self, dense: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
        """
        Args:
            dense: (B, N) float32.
            values: (T,) int64 ids, feature by feature, row by row within a feature.
            lengths: (F, B) int64 numbers of ids.

        Returns:
            (B, M + P) float32 probabilities.
        """
        return append_logits(self.logits(dense, values, lengths), self._chains).sigmoid()

    def logits(self, dense: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
        """As :meth:`forward`, to logits (B, M) of the tasks."""
        return torch.cat([ranker(dense, values, lengths) for ranker in self.rankers], dim=1)


def model_inputs(batch: MultiTaskBatch) -> tuple[Tensor, Tensor, Tensor]:
    """What :meth:`ServedModel.forward` takes: dense values, ids, numbers of ids."""
    return batch.dense, batch.sparse.values().long(), batch.sparse.lengths().long().view(-1, len(batch))
