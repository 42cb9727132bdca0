"""The multi-task ranker.

Notation: B batch, N dense features, F categorical features, D width of the shared representation, M tasks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.modules.mlp import Perceptron
from torchrec.sparse.jagged_tensor import KeyedTensor

from dlrm_mtl.balancing import BalancingLayer, ParameterLevelLayer
from dlrm_mtl.config import ModelConfig
from dlrm_mtl.data.batch import MultiTaskBatch
from dlrm_mtl.model_schema import ModelSchema
from dlrm_mtl.models.embeddings import build_embedding_bags
from dlrm_mtl.models.label_units import LabelUnits
from dlrm_mtl.models.losses import TaskLosses
from dlrm_mtl.models.onednn import use_onednn
from dlrm_mtl.models.relations.relation import Head, LossTerms, build_relation
from dlrm_mtl.models.representation import OwnRepresentations, Representation
from dlrm_mtl.models.sharing.architecture import HeadInput, Layer, build_sharing


@dataclass
class Predictions:
    """A batch's predictions and labels, for metrics; without gradients."""

    logits: Tensor
    """(B, M) float32 log-odds; of a regression task, the prediction in the unit of its label."""
    labels: Tensor
    """(B, M)."""
    weights: Tensor
    """(B, M)."""
    rows: Tensor
    """(B,) positions in the split; negative for padding rows."""
    context: Tensor
    """(B, 1 + S), or (B, 0) in training."""


class TaskHeads(nn.Module):
    """MLPs with one output, one per head.

    The last bias starts at the log-odds of the task's base rate; without that the first steps only learn it.
    """

    def __init__(self, heads: Sequence[Head], config: ModelConfig, in_features: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.heads = nn.ModuleDict(
            {head.name: _head(in_features, config.head_mlp, head.first_output) for head in heads}
        )

    def forward(self, rows: Sequence[Tensor], inputs: Sequence[HeadInput]) -> Tensor:
        """R tensors (B, in_features), for these heads, to logits (B, R).

        Raises:
            ValueError: the architecture gives tensors of another width than it states.
        """
        if widths := {each.shape[1] for each in rows} - {self.in_features}:
            raise ValueError(f"model.sharing: rows of width {widths.pop()}, expected out_features, {self.in_features}")
        heads = list(self.heads.values())
        return torch.cat([heads[head](each) for (_, head), each in zip(inputs, rows, strict=True)], dim=1)


class DenseModules(nn.Module):
    """Everything dense but the balancing layer, built on torch's default device and from its random numbers.

    Raises:
        ValueError: the configuration does not fit the data set, or a class of the user's cannot be imported.
    """

    def __init__(self, schema: ModelSchema, config: ModelConfig) -> None:
        super().__init__()
        relation = build_relation(config, schema.tasks)
        shared = Representation(schema, config)
        sharing = build_sharing(config, shared.out_features, [head.name for head in relation.heads])
        heads = TaskHeads(relation.heads, config, sharing.out_features)
        self.shared, self.own, self.sharing = shared, OwnRepresentations(schema, config), sharing
        self.heads, self.relation, self.units = heads, relation, LabelUnits(schema.tasks)

    def head_logits(self, embeddings: Mapping[str, Tensor], dense: Tensor, layer: Layer) -> Tensor:
        """
        Args:
            embeddings: pooled embeddings (B, D_f) of all tables, by :func:`embedding_names`.
            dense: (B, N).
            layer: the balancing layer.

        Returns:
            (B, R) outputs of the heads.
        """
        representation = self.shared(embeddings, dense)
        own = self.own(embeddings, dense, list(self.heads.heads))
        rows = self.sharing(representation, layer, self.relation.inputs, *([own] if own else []))
        logits: Tensor = self.heads(rows, self.relation.inputs)
        return logits

    def task_predictions(self, logits: Tensor) -> Tensor:
        """(B, R) outputs of the heads to (B, M), see :class:`Predictions`."""
        return self.units.restore(self.relation.task_logits(logits))

    def loss_terms(self, logits: Tensor, labels: Tensor, weights: Tensor) -> LossTerms:
        """
        Args:
            logits: (B, R) outputs of the heads.
            labels: (B, M) those of a batch.
            weights: (B, M) those of a batch.
        """
        return self.relation.loss_terms(logits, self.units.standardise(labels), weights)


class DensePart(DenseModules):
    """Everything but the tables. A separate module, since the train pipeline traces the module that calls the tables
    and takes this one as a leaf."""

    def __init__(
        self,
        schema: ModelSchema,
        config: ModelConfig,
        balancing: BalancingLayer | ParameterLevelLayer,
        losses: TaskLosses,
        bf16: bool,
    ) -> None:
        super().__init__(schema, config)
        self.balancing = balancing
        self.losses = losses
        self._bf16 = bf16

    def forward(self, embeddings: KeyedTensor, batch: MultiTaskBatch) -> tuple[Tensor, Predictions]:
        with torch.autocast(batch.dense.device.type, dtype=torch.bfloat16, enabled=self._bf16):
            logits = self.head_logits(embeddings.to_dict(), batch.dense, self.balancing).float()
        of_tasks = self.task_predictions(logits)
        # Rows of an evaluation are not spread evenly over the ranks, so a reduced loss would mean nothing there.
        losses = logits.new_zeros(of_tasks.shape[1])
        if self.training:
            terms = self.loss_terms(logits, batch.labels, batch.weights)
            losses = self.balancing.weigh_losses(self.losses(terms.logits, terms.labels, terms.weights))
        return losses, Predictions(of_tasks.detach(), batch.labels, batch.weights, batch.rows, batch.context)


class MultiTaskRanker(nn.Module):
    """Multi-task DLRM with the balancing layer where the shared layers end.

    ``forward(batch) -> (losses (M,), predictions)``, the form that torchrec's train pipelines take: they run one
    backward pass over the sum of the losses.
    """

    def __init__(self, embedding_bags: EmbeddingBagCollection, dense_part: DensePart) -> None:
        super().__init__()
        self.embedding_bags = embedding_bags
        self.dense_part = dense_part

    def forward(self, batch: MultiTaskBatch) -> tuple[Tensor, Predictions]:
        output: tuple[Tensor, Predictions] = self.dense_part(self.embedding_bags(batch.sparse), batch)
        return output


def build_ranker(
    schema: ModelSchema,
    config: ModelConfig,
    balancing: BalancingLayer | ParameterLevelLayer,
    losses: TaskLosses,
    seed: int,
    device: torch.device,
    bf16: bool = False,
) -> MultiTaskRanker:
    """Builds the ranker: tables on the meta device, everything else on ``device``, initialised from ``seed`` alone.

    Raises:
        ValueError: the configuration does not fit the data set.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        dense_part = DensePart(schema, config, balancing, losses, bf16).to(device)
    if device.type == "cpu":
        use_onednn(dense_part)
    return MultiTaskRanker(build_embedding_bags(schema, config), dense_part)


def _head(in_features: int, layers: tuple[int, ...], first_output: float) -> nn.Module:
    sizes = (in_features, *layers)
    logit = nn.Linear(sizes[-1], 1)
    nn.init.constant_(logit.bias, first_output)
    return nn.Sequential(*(Perceptron(*pair) for pair in pairwise(sizes)), logit)
