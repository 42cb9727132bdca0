"""Models for serving, with the weights of models for training, and batches for both."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.data.batch import MultiTaskBatch
from dlrm_mtl.data.dataset import open_dataset
from dlrm_mtl.data.reader import EvaluationReader
from dlrm_mtl.data.source import RowSource
from dlrm_mtl.model_schema import Task
from dlrm_mtl.models.ranker import MultiTaskRanker
from dlrm_mtl.schema import Schema
from dlrm_mtl.serving.served_model import PlainRanker
from dlrm_mtl.serving.weights import weights_of
from tests.models.batches import SCHEMA, materialized

FUNNEL = replace(
    SCHEMA,
    tasks=(
        Task("click", "click", base_rate=0.5),
        Task("like", "like", given="click", base_rate=0.1),
        Task("buy", "buy", given="click", through="like", base_rate=0.2),
    ),
)
"""The small data set's features, with tasks for every relation."""

SMALL = ModelConfig(
    embedding_dim=4,
    bottom_mlp=(6,),
    cross_rank=3,
    deep_mlp=(5,),
    projection_sizes=(2, 3),
    shared_experts=2,
    own_experts=2,
    expert_mlp=(6,),
    head_mlp=(5,),
)


def trained(schema: Schema, config: ModelConfig) -> tuple[MultiTaskRanker, PlainRanker]:
    """A model for training with random weights, in evaluation mode, and the one for serving with the same weights."""
    model = materialized(schema, config).eval()
    weights = model.state_dict()
    for weight in weights.values():
        if weight.dtype == torch.float32:
            torch.nn.init.normal_(weight, std=0.4)
    plain = PlainRanker(schema, config)
    for name, weight in weights_of(plain).items():
        weight.copy_(weights[name])
    return model, plain


def real_batches(data: Path, batch_size: int) -> Sequence[MultiTaskBatch]:
    """The eval split of a data set."""
    return list(EvaluationReader(RowSource(open_dataset(data)), batch_size, rank=0, world_size=1))
