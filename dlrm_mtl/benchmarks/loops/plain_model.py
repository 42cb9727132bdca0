"""The default model as a user of TorchRec would train it without balancing: the losses are summed."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist
from torchrec.optim.keyed import CombinedOptimizer, KeyedOptimizerWrapper
from torchrec.optim.optimizers import in_backward_optimizer_filter
from torchrec.sparse.jagged_tensor import KeyedTensor

from dlrm_mtl.balancing import BalancingLayer, create_balancer
from dlrm_mtl.data.batch import MultiTaskBatch
from dlrm_mtl.distributed.sharding import sharders
from dlrm_mtl.distributed.tables import initialize_tables
from dlrm_mtl.models.embeddings import build_embedding_bags
from dlrm_mtl.models.losses import TaskLosses
from dlrm_mtl.models.ranker import DenseModules
from dlrm_mtl.training.optimization.optimizers import apply_table_optimizer
from dlrm_mtl.training.session import Session

Output = tuple[Tensor, tuple[Tensor, Tensor, Tensor]]
"""The loss; loss, logits and labels for metrics."""


@dataclass(frozen=True)
class PlainModel:
    """The model and optimizers of a train pipeline."""

    model: DistributedModelParallel
    optimizer: CombinedOptimizer

    def pipeline(self, device: torch.device) -> TrainPipelineSparseDist:
        return TrainPipelineSparseDist(self.model, self.optimizer, device, execute_all_batches=True)


class _DensePart(DenseModules):
    """Everything but the tables; a leaf module for the pipeline's tracing."""

    def __init__(self, session: Session) -> None:
        schema = session.source.dataset.schema
        super().__init__(schema, session.config.model)
        self._losses = TaskLosses(schema.tasks, "batch")
        # In evaluation it is the identity. In a tuple it is no part of this module.
        self._layer = (BalancingLayer(create_balancer("mean", len(schema.tasks))).eval(),)

    def forward(self, embeddings: KeyedTensor, batch: MultiTaskBatch) -> Output:
        logits = self.head_logits(embeddings.to_dict(), batch.dense, self._layer[0])
        terms = self.loss_terms(logits, batch.labels, batch.weights)
        loss = self._losses(terms.logits, terms.labels, terms.weights).sum()
        return loss, (loss.detach(), logits.detach(), batch.labels)


class _Ranker(nn.Module):
    def __init__(self, session: Session) -> None:
        super().__init__()
        self.embedding_bags = build_embedding_bags(session.source.dataset.schema, session.config.model)
        self.dense_part = _DensePart(session).to(session.ranks.device)

    def forward(self, batch: MultiTaskBatch) -> Output:
        output: Output = self.dense_part(self.embedding_bags(batch.sparse), batch)
        return output


def build_plain_model(session: Session) -> PlainModel:
    """Sharded by the session's plan, with its optimizers: tables fused in backward, Adam for the rest. Collective."""
    config, device = session.config, session.ranks.device
    ranker = _Ranker(session)
    apply_table_optimizer(ranker.embedding_bags, config.optimizer, device)
    model = DistributedModelParallel(ranker, device=device, plan=session.plan, sharders=sharders())
    initialize_tables(model, seed=0)
    dense = KeyedOptimizerWrapper(
        dict(in_backward_optimizer_filter(model.named_parameters())),
        lambda parameters: torch.optim.Adam(parameters, lr=config.optimizer.dense_lr),
    )
    model.train()
    return PlainModel(model, CombinedOptimizer([model.fused_optimizer, dense]))
