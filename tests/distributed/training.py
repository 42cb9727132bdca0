"""Worker functions: a few training steps on given global batches, and their results."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import nn
from torch.distributed._shard.sharded_tensor.api import ShardedTensor
from torchrec.distributed.sharding_plan import (
    column_wise,
    construct_module_sharding_plan,
    row_wise,
    table_wise,
)
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist
from torchrec.distributed.types import ShardingPlan

from dlrm_mtl.config import OptimizerConfig
from dlrm_mtl.data.assembly import Rows
from dlrm_mtl.data.batch import MultiTaskBatch
from dlrm_mtl.data.dataset import open_dataset
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.distributed.sharding import sharders
from dlrm_mtl.models.embeddings import build_embedding_bags
from dlrm_mtl.recipe import parse_recipe
from dlrm_mtl.run_config import RunConfig
from dlrm_mtl.schema import Schema
from dlrm_mtl.training.arm import Arm, build_arm, make_plan
from dlrm_mtl.training.optimization.optimizers import apply_table_optimizer

Weights = dict[str, npt.NDArray[Any]]

GLOBAL_BATCH = 48


def run_config(directory: Path, **changes: Any) -> RunConfig:
    """A small run with SGD, which does not amplify rounding errors by small denominators."""
    optimizer = OptimizerConfig(table="sgd", table_lr=0.5, dense="sgd", dense_lr=0.1)
    config = RunConfig(directory, directory / "unused", batch_size=GLOBAL_BATCH, optimizer=optimizer)
    return replace(config, **changes)


def local_batches(config: RunConfig, ranks: Ranks, steps: int) -> list[MultiTaskBatch]:
    """This rank's slices of the first global batches of the data set, in file order."""
    dataset = open_dataset(config.data)
    table = pa.concat_tables([dataset.read(group, dataset.columns) for group in dataset.row_groups["train"]])
    rows = Rows(dataset.schema, table, np.arange(len(table)))
    size = config.local_batch_size(ranks.world_size)
    starts = [step * config.batch_size + ranks.rank * size for step in range(steps)]
    return [rows.batch(start, start + size) for start in starts]


def plan_by_hand(config: RunConfig, schema: Schema, ranks: Ranks, kind: str) -> ShardingPlan:
    """A plan of one sharding type for every table, spread over the ranks; mixed: row- and table-wise in turns."""
    tables = build_embedding_bags(schema, config.model)
    apply_table_optimizer(tables, config.optimizer, ranks.device)
    generators: dict[str, Any] = {}
    for index, name in enumerate(table.name for table in tables.embedding_bag_configs()):
        if kind == "table_wise" or (kind == "mixed" and index % 2):
            generators[name] = table_wise(rank=index % ranks.world_size)
        elif kind in ("row_wise", "mixed"):
            generators[name] = row_wise()
        else:
            generators[name] = column_wise(ranks=[r % ranks.world_size for r in (index, index + 1)])
    sharder = sharders()[0]
    module_plan = construct_module_sharding_plan(
        tables,
        generators,
        sharder,
        ranks.world_size,
        ranks.world_size,
        ranks.device.type,  # type: ignore[arg-type]
    )
    return ShardingPlan(plan={"embedding_bags": module_plan})


def local_weights(arm: Arm) -> Weights:
    """Every local shard and dense weight; a shard's key ends in ``@row,column``."""
    weights: Weights = {}
    for name, value in arm.model.state_dict().items():
        if isinstance(value, ShardedTensor):
            for shard in value.local_shards():
                row, column = shard.metadata.shard_offsets
                weights[f"{name}@{row},{column}"] = shard.tensor.detach().cpu().numpy().copy()
        else:
            weights[name] = value.detach().cpu().numpy().copy()
    return weights


def train_steps(ranks: Ranks, config: RunConfig, recipe: str, steps: int, kind: str | None = None) -> dict[str, Any]:
    """Trains on given batches.

    Returns:
        ``initial`` and ``final`` weights, and per step ``losses`` of the global batch, the balancing ``coefficients``
        and ``task_weights``.
    """
    schema = open_dataset(config.data).schema
    plan = plan_by_hand(config, schema, ranks, kind) if kind else make_plan(config, schema, ranks)
    arm = build_arm(config, parse_recipe(recipe), 3, schema, plan, ranks)
    initial = local_weights(arm)
    losses: list[torch.Tensor] = []
    arm.model.module.dense_part.losses.register_forward_hook(
        lambda module, inputs, output: losses.append(output.detach())
    )
    pipeline = TrainPipelineSparseDist(arm.model, arm.optimizer, ranks.device, execute_all_batches=True)
    iterator = iter(local_batches(config, ranks, steps))
    coefficients, task_weights, gramians = [], [], []
    for _ in range(steps):
        pipeline.progress(iterator)
        record = arm.balancing.record
        assert record is not None
        coefficients.append(record.coefficients.cpu().numpy().copy())
        task_weights.append(record.task_weights.cpu().numpy().copy())
        gramians.append(record.gramian.cpu().numpy().copy())
    stacked = torch.stack(losses)
    torch.distributed.all_reduce(stacked)
    return {
        "initial": initial,
        "final": local_weights(arm),
        "losses": (stacked / ranks.world_size).cpu().numpy(),
        "coefficients": np.stack(coefficients),
        "task_weights": np.stack(task_weights),
        "gramians": np.stack(gramians),
        "pipelined": len(pipeline._pipelined_modules),
        "sharded": sum(hasattr(module, "input_dist") for module in arm.model.modules()),
    }


def assemble(results: list[dict[str, Any]], key: str) -> Weights:
    """Whole tables from the shards of all ranks; dense weights must agree on every rank."""
    whole: Weights = {}
    shards: dict[str, dict[tuple[int, int], npt.NDArray[Any]]] = {}
    for result in results:
        for name, value in result[key].items():
            if "@" in name:
                table, _, offsets = name.partition("@")
                row, column = map(int, offsets.split(","))
                shards.setdefault(table, {})[row, column] = value
            else:
                np.testing.assert_array_equal(value, whole.setdefault(name, value), err_msg=name)
    for table, parts in shards.items():
        rows = max(row + len(part) for (row, _), part in parts.items())
        columns = max(column + part.shape[1] for (_, column), part in parts.items())
        whole[table] = np.full((rows, columns), np.nan, dtype=np.float32)
        for (row, column), part in parts.items():
            whole[table][row : row + len(part), column : column + part.shape[1]] = part
    return whole


def count_table_updates(ranks: Ranks, config: RunConfig, recipe: str, steps: int) -> int:
    """Number of backward passes that reached the tables in some steps, counted at the lookup's output."""
    schema = open_dataset(config.data).schema
    arm = build_arm(config, parse_recipe(recipe), 3, schema, make_plan(config, schema, ranks), ranks)
    backwards = 0

    def count(gradient: torch.Tensor) -> None:
        nonlocal backwards
        backwards += 1

    def watch(module: nn.Module, inputs: Any, output: Any) -> None:
        output.register_hook(count)

    lookups = arm.model.module.embedding_bags._lookups
    kernels = [embeddings.emb_module for lookup in lookups for embeddings in lookup._emb_modules]
    assert len(kernels) == 1
    kernels[0].register_forward_hook(watch)
    pipeline = TrainPipelineSparseDist(arm.model, arm.optimizer, ranks.device, execute_all_batches=True)
    iterator = iter(local_batches(config, ranks, steps))
    for _ in range(steps):
        pipeline.progress(iterator)
    return backwards
