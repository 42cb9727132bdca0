"""An arm: a sharded model with its balancing layer and optimizer."""

from dataclasses import dataclass

import torch
from torch import nn
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.distributed.types import ShardingPlan

from dlrm_mtl.arms import build_layer
from dlrm_mtl.balancing import BalancingLayer, ParameterLevelLayer
from dlrm_mtl.config import ModelConfig, OptimizerConfig
from dlrm_mtl.distributed.caching import fetches_ahead
from dlrm_mtl.distributed.mean_pooling import average_once
from dlrm_mtl.distributed.planner import plan_sharding
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.distributed.replication import (
    average_gradients_of_replicas,
    replicate_tables,
    replicated_parameters,
)
from dlrm_mtl.distributed.sharding import sharders
from dlrm_mtl.distributed.table_guard import guard_tables
from dlrm_mtl.distributed.tables import initialize_tables
from dlrm_mtl.model_schema import ModelSchema
from dlrm_mtl.models.embeddings import build_embedding_bags
from dlrm_mtl.models.losses import TaskLosses
from dlrm_mtl.models.ranker import MultiTaskRanker, build_ranker
from dlrm_mtl.recipe import Recipe
from dlrm_mtl.run_config import RunConfig
from dlrm_mtl.training.optimization.optimizers import apply_table_optimizer, build_optimizer
from dlrm_mtl.training.optimization.step_guard import GuardedOptimizers


@dataclass(frozen=True)
class Arm:
    """The model and optimizer of an arm, as a train pipeline needs them."""

    model: DistributedModelParallel
    balancing: BalancingLayer | ParameterLevelLayer
    """The layer inside ``model``."""
    optimizer: GuardedOptimizers
    replicated: bool
    """Whether every rank has whole tables, updated after backward instead of inside."""
    prefetch: bool
    """Whether to fetch rows into the tables' caches ahead of their step."""


def make_plan(config: RunConfig, schema: ModelSchema, ranks: Ranks) -> ShardingPlan:
    """The sharding plan of a run, shared by all its arms and seeds. Collective.

    Raises:
        ValueError: no plan fits, or an option does not suit the device.
    """
    return plan_sharding(
        build_table_model(schema, config.model, config.optimizer, ranks.device),
        schema,
        config.sharding,
        config.optimizer.table,
        config.local_batch_size(ranks.world_size),
        ranks,
    )


def build_table_model(
    schema: ModelSchema, model: ModelConfig, optimizer: OptimizerConfig, device: torch.device
) -> nn.ModuleDict:
    """The tables to plan: those of the ranker, on the meta device, with their optimizer applied.

    Raises:
        ValueError: an option does not suit the data set, or the device that the tables are for.
    """
    tables = build_embedding_bags(schema, model)
    apply_table_optimizer(tables, optimizer, device)
    return nn.ModuleDict({"embedding_bags": tables})


def build_arm(
    config: RunConfig, recipe: Recipe, seed: int, schema: ModelSchema, plan: ShardingPlan, ranks: Ranks
) -> Arm:
    """Builds and shards a model. Its initial weights are a function of the seed, whatever the plan. Collective.

    Raises:
        ValueError: the configuration does not fit data set, method or device.
    """
    balancing = build_layer(recipe, schema.task_names, ranks.group).to(ranks.device)
    losses = TaskLosses(schema.tasks, config.loss_reduction, ranks.group)
    ranker = build_ranker(schema, config.model, balancing, losses, seed, ranks.device, config.bf16)
    replicated = recipe.level == "embedding"
    if replicated:
        plan = replicate_tables(ranker.embedding_bags, ranks)
    else:
        apply_table_optimizer(ranker.embedding_bags, config.optimizer, ranks.device)
    model = DistributedModelParallel(ranker, device=ranks.device, plan=plan, sharders=sharders(config.sharding.comms))
    average_once(ranker.embedding_bags)
    if replicated:
        average_gradients_of_replicas(ranker.embedding_bags, ranks)
    initialize_tables(model, seed)
    if isinstance(balancing, ParameterLevelLayer):
        balancing.bind(_target_parameters(ranker, recipe.level))
    optimizer = build_optimizer(model, config.optimizer, replicated)
    if not replicated:
        guard_tables(ranker.embedding_bags)
    return Arm(model, balancing, optimizer, replicated, fetches_ahead(plan))


def _target_parameters(ranker: MultiTaskRanker, level: str) -> list[nn.Parameter]:
    shared = ranker.dense_part.shared
    if level == "embedding":
        return replicated_parameters(ranker.embedding_bags)
    return list((shared.interaction if level == "interaction" else shared.bottom).parameters())
