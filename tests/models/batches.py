"""Batches and pooled embeddings for tests of the model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.sparse.jagged_tensor import KeyedTensor

from dlrm_mtl.balancing import BalancingLayer, create_balancer
from dlrm_mtl.config import ModelConfig
from dlrm_mtl.model_schema import Task
from dlrm_mtl.models.losses import TaskLosses
from dlrm_mtl.models.ranker import MultiTaskRanker, build_ranker
from dlrm_mtl.schema import Schema, Shard
from tests.datasets import CATEGORICAL, DENSE, TASKS

RATES = (0.5, 0.02, 0.3)

SCHEMA = Schema(
    name="small",
    categorical=CATEGORICAL,
    dense=DENSE,
    tasks=tuple(replace(task, base_rate=rate) for task, rate in zip(TASKS, RATES, strict=True)),
    splits={split: (Shard(str(Path(split) / "part.parquet"), 8),) for split in ("train", "eval")},
)
WITHOUT_DENSE = replace(SCHEMA, dense=())


def one_task(base_rate: float) -> Schema:
    """The schema with a single task."""
    return replace(SCHEMA, tasks=(Task("click", "click", base_rate=base_rate),))


def build(
    schema: Schema, config: ModelConfig, seed: int = 0, bf16: bool = False, recipe: str = "mean"
) -> MultiTaskRanker:
    """The ranker, its tables on the meta device."""
    balancing = BalancingLayer(create_balancer(recipe, len(schema.tasks)))
    return build_ranker(schema, config, balancing, TaskLosses(schema.tasks, "batch"), seed, torch.device("cpu"), bf16)


def materialized(schema: Schema, config: ModelConfig, bf16: bool = False, recipe: str = "mean") -> MultiTaskRanker:
    """The ranker on one process without sharding, its tables allocated and random."""
    model = build(schema, config, bf16=bf16, recipe=recipe)
    meta = model.embedding_bags
    tables = [replace(table, init_fn=None) for table in meta.embedding_bag_configs()]
    model.embedding_bags = EmbeddingBagCollection(tables=tables, device=torch.device("cpu"))
    return model


def pooled(dims: Mapping[str, int], rows: int, seed: int = 0, scale: float = 1.0) -> dict[str, Tensor]:
    """Pooled embeddings (rows, D_f) by feature."""
    generator = torch.Generator().manual_seed(seed)
    return {name: scale * torch.randn(rows, dim, generator=generator) for name, dim in dims.items()}


def keyed(embeddings: Mapping[str, Tensor], order: Sequence[str]) -> KeyedTensor:
    """Pooled embeddings, side by side in the given order."""
    parts = [embeddings[name] for name in order]
    return KeyedTensor(list(order), [part.shape[1] for part in parts], torch.cat(parts, dim=1))
