"""The train pipeline: nothing falls out of it, and it can be emptied between windows."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchrec.distributed.train_pipeline import PrefetchTrainPipelineSparseDist, TrainPipelineSparseDist

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.data.batch import MultiTaskBatch
from dlrm_mtl.data.dataset import open_dataset
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.model_parts import INTERACTIONS
from dlrm_mtl.models.ranker import MultiTaskRanker
from dlrm_mtl.recipe import parse_recipe
from dlrm_mtl.run_config import RunConfig
from dlrm_mtl.training.arm import build_arm, make_plan
from dlrm_mtl.training.pipeline import build_pipeline, pipeline_class
from tests.distributed.training import local_batches, local_weights, run_config
from tests.ranks import RankPool
from tests.training import runs
from tests.training.runs import Run

TASK_SETS = (("click",), ("buy",), ("click", "like"), ("click", "like", "buy"))
"""One task, one that is defined for some rows, some, all."""
ARMS = (
    *("mean", "multibalance", "multibalance:reduction=delayed", "multibalance:reduction=local", "graddrop"),
    *("uncertainty", "imtl_l+imtl_g", "torchjd:UPGrad", "mgda:level=dense", "multibalance:level=interaction"),
)


class Spoiled(MultiTaskRanker):
    """Puts an operation between batch and tables, which the pipeline cannot look through."""

    def forward(self, batch: MultiTaskBatch) -> Any:
        return self.dense_part(self.embedding_bags(batch.sparse.permute([0, 1, 2, 3])), batch)


def pipelined(ranks: Ranks, config: RunConfig, tasks: Sequence[str], recipe: str, spoil: bool = False) -> bool:
    """Whether the exchange of ids of all sharded modules runs ahead in training."""
    schema = open_dataset(config.data).schema
    kept = [index for index, task in enumerate(schema.tasks) if task.name in tasks]
    schema = replace(schema, tasks=tuple(schema.tasks[index] for index in kept))
    arm = build_arm(config, parse_recipe(recipe), 3, schema, make_plan(config, schema, ranks), ranks)
    if spoil:
        arm.model.module.__class__ = Spoiled
    pipeline = build_pipeline(arm, ranks.device)
    batches = local_batches(config, ranks, 3)
    for batch in batches:
        batch.labels, batch.weights = batch.labels[:, kept], batch.weights[:, kept]
    iterator = iter(batches)
    for _ in batches:
        pipeline.progress(iterator)
    sharded = [module for module in arm.model.modules() if hasattr(module, "input_dist")]
    assert len(sharded) == 1
    return len(pipeline._pipelined_modules) == len(sharded)


@pytest.mark.parametrize("tasks", TASK_SETS, ids="-".join)
@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_nothing_falls_out(small_dataset: Path, rank_pool: RankPool, interaction: Any, tasks: Sequence[str]) -> None:
    config = run_config(small_dataset, model=ModelConfig(interaction, over_mlp=(24,)))
    assert rank_pool.run(1, pipelined, config, tasks, "multibalance") == [True]


@pytest.mark.parametrize("recipe", ARMS)
def test_nothing_falls_out_of_any_arm(small_dataset: Path, rank_pool: RankPool, recipe: str) -> None:
    config = run_config(small_dataset, model=ModelConfig("dcn"), bf16=True)
    assert rank_pool.run(1, pipelined, config, TASK_SETS[-1], recipe) == [True]


def test_the_check_can_fail(small_dataset: Path, rank_pool: RankPool) -> None:
    assert rank_pool.run(1, pipelined, run_config(small_dataset), TASK_SETS[-1], "mean", True) == [False]


def test_the_pipeline_of_a_plan() -> None:
    assert pipeline_class(prefetch=False) is TrainPipelineSparseDist
    assert pipeline_class(prefetch=True) is PrefetchTrainPipelineSparseDist


def train_in_drained_windows(ranks: Ranks, config: RunConfig, recipe: str) -> tuple[Run, list[int]]:
    """A run whose pipeline is empty between windows, and how many batches were under way there."""
    trainer = runs.make_trainer(ranks, config, recipe, 0)
    trainer.drains = True
    windows, under_way = [], []
    while not trainer.done:
        windows.append(trainer.train_window(config.log_every))
        under_way.append(len(trainer.pipeline.batches))
        evaluation = trainer.evaluate()
    weights = local_weights(trainer.arm)
    return Run(windows, evaluation.tasks, evaluation.sums, weights, trainer.total_steps), under_way


@pytest.mark.parametrize("world_size", [1, 2])
def test_an_emptied_pipeline_trains_the_same(small_dataset: Path, rank_pool: RankPool, world_size: int) -> None:
    """Over the end of an epoch, too."""
    config = run_config(small_dataset, log_every=5, epochs=2)
    plain = rank_pool.run(world_size, runs.train, config, "multibalance")[0]
    drained, under_way = rank_pool.run(world_size, train_in_drained_windows, config, "multibalance")[0]
    assert under_way == [0] * 5
    assert drained.ne == plain.ne
    assert all(np.array_equal(drained.weights[name], value) for name, value in plain.weights.items())
    assert [window.metrics for window in drained.windows] == [window.metrics for window in plain.windows]
