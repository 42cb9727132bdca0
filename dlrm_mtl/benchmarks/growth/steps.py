"""Training steps of an arm on random batches from memory, for models of any size without a data set."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle
from pathlib import Path

import torch
from torch import nn
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dlrm_mtl.benchmarks.limits import Work, count_dense_flops, count_table_bytes
from dlrm_mtl.config import ModelConfig
from dlrm_mtl.data.batch import MultiTaskBatch
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.model_schema import CategoricalFeature, Task
from dlrm_mtl.recipe import parse_recipe
from dlrm_mtl.run_config import RunConfig
from dlrm_mtl.schema import Schema, Shard
from dlrm_mtl.training.arm import build_arm, make_plan

BATCHES = 8
"""Number of batches in memory, which the steps use repeatedly."""

DENSE_FEATURES = 8


@dataclass(frozen=True)
class Size:
    """The size of a model and its batch."""

    tasks: int
    dim: int
    batch: int
    """Rows of the global batch."""
    tables: int

    def with_(self, changes: Mapping[str, int]) -> "Size":
        return replace(self, **changes)


class Steps:
    """An arm of the default architecture, trained on random batches with one id per table and row. Collective.

    Args:
        arm: name of the arm.
        table_rows: rows of each table.

    Raises:
        ValueError: the ranks do not divide the batch, or the arm does not suit the number of tasks.
    """

    def __init__(self, arm: str, size: Size, table_rows: int, ranks: Ranks) -> None:
        nowhere = Path()
        self._config = RunConfig(nowhere, nowhere, size.batch, model=ModelConfig(embedding_dim=size.dim))
        self.rows = self._config.local_batch_size(ranks.world_size)
        schema = random_schema(size, table_rows)
        plan = make_plan(self._config, schema, ranks)
        self._arm = build_arm(self._config, parse_recipe(arm), 0, schema, plan, ranks)
        self._arm.model.train()
        self._pipeline = TrainPipelineSparseDist(
            self._arm.model, self._arm.optimizer, ranks.device, execute_all_batches=True
        )
        generator = torch.Generator().manual_seed(ranks.rank)
        batches = [random_batch(schema, self.rows, generator) for _ in range(BATCHES)]
        if ranks.device.type == "cuda":
            batches = [batch.pin_memory() for batch in batches]
        self._batches = cycle(batches)
        self._size = size

    @property
    def model(self) -> nn.Module:
        return self._arm.model

    def step(self) -> int:
        """One step. Collective.

        Returns:
            1.
        """
        self._pipeline.progress(self._batches)
        return 1

    def work(self) -> Work:
        """The work of the local part of a step. Collective: runs one step."""
        bags = self.rows * self._size.tables
        return Work(count_dense_flops(partial(self.step)), count_table_bytes(bags, bags, self._size.dim))


def random_schema(size: Size, table_rows: int) -> Schema:
    """A schema, without files, of one-hot features with a table each and tasks defined on every row."""
    return Schema(
        "random",
        tuple(CategoricalFeature(f"table_{index}", table_rows) for index in range(size.tables)),
        tuple(f"dense_{index}" for index in range(DENSE_FEATURES)),
        tuple(Task(f"task_{index}", f"label_{index}", base_rate=0.25) for index in range(size.tasks)),
        {split: (Shard(f"{split}.parquet", size.batch),) for split in ("train", "eval")},
    )


def random_batch(schema: Schema, rows: int, generator: torch.Generator) -> MultiTaskBatch:
    """Uniform ids, normal dense features, labels with the tasks' base rates."""
    ids = [torch.randint(feature.cardinality, (rows,), generator=generator) for feature in schema.categorical]
    return MultiTaskBatch(
        sparse=KeyedJaggedTensor(
            keys=[feature.name for feature in schema.categorical],
            values=torch.cat(ids),
            lengths=torch.ones(rows * len(ids), dtype=torch.int32),
            stride=rows,
        ),
        dense=torch.randn(rows, len(schema.dense), generator=generator),
        labels=(torch.rand(rows, len(schema.tasks), generator=generator) < 0.25).float(),
        weights=torch.ones(rows, len(schema.tasks)),
        rows=torch.arange(rows),
        context=torch.empty(rows, 0, dtype=torch.int64),
    )
