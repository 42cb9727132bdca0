"""Worker functions: real training runs on the ranks of a pool, and what they leave behind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torchrec.distributed.sharding_plan import construct_module_sharding_plan, data_parallel
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist
from torchrec.distributed.types import ShardingPlan

from dlrm_mtl.config import OptimizerConfig
from dlrm_mtl.data.dataset import open_dataset
from dlrm_mtl.data.source import RowSource
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.distributed.sharding import sharders
from dlrm_mtl.metrics.evaluation import Evaluation
from dlrm_mtl.metrics.task_metrics import TaskMetrics
from dlrm_mtl.models.embeddings import build_embedding_bags
from dlrm_mtl.recipe import parse_recipe
from dlrm_mtl.run_config import RunConfig
from dlrm_mtl.training.arm import build_arm, make_plan
from dlrm_mtl.training.checkpoints import RunCheckpoints
from dlrm_mtl.training.loop import ArmResult, train_arms
from dlrm_mtl.training.optimization.optimizers import apply_table_optimizer
from dlrm_mtl.training.run_log import RunLog
from dlrm_mtl.training.session import Session, prepare
from dlrm_mtl.training.trainer import Trainer
from dlrm_mtl.training.window import Window
from tests.distributed.training import Weights, local_batches, local_weights


@dataclass
class Run:
    """What a rank saw of a run."""

    windows: list[Window]
    metrics: Sequence[TaskMetrics]
    """Of the final evaluation."""
    sums: npt.NDArray[np.float64]
    """Of the final evaluation, in buckets."""
    weights: Weights
    total_steps: int

    @property
    def ne(self) -> list[float | None]:
        return [task.normalized_loss for task in self.metrics]


def make_trainer(ranks: Ranks, config: RunConfig, recipe: str, seed: int) -> Trainer:
    dataset = open_dataset(config.data)
    plan = make_plan(config, dataset.schema, ranks)
    return Trainer(config, parse_recipe(recipe), seed, RowSource(dataset, config.on_bad_shard), plan, ranks)


def train(ranks: Ranks, config: RunConfig, recipe: str, seed: int = 0, evaluate_often: bool = False) -> Run:
    """Trains to the end, in windows of ``log_every`` steps."""
    trainer = make_trainer(ranks, config, recipe, seed)
    windows = []
    if evaluate_often:
        trainer.evaluate()
    while not trainer.done:
        windows.append(trainer.train_window(config.log_every))
        if evaluate_often:
            trainer.evaluate()
    evaluation = trainer.evaluate()
    return Run(windows, evaluation.tasks, evaluation.sums, local_weights(trainer.arm), trainer.total_steps)


def error_of_preparing(ranks: Ranks, config: Any, arms: list[str]) -> str:
    """What a run is refused with before its first step; empty if it is not."""
    try:
        prepare(config, arms, ranks)
    except ValueError as error:
        return str(error)
    return ""


def prepared_and_trained(ranks: Ranks, config: RunConfig) -> tuple[OptimizerConfig, Weights]:
    """The optimizers of a prepared run, and its weights at the end."""
    session = prepare(config, ["mean"], ranks)
    trainer = session.trainer("mean", 0)
    assert isinstance(trainer, Trainer)
    trainer.train_window(trainer.total_steps)
    return session.config.optimizer, local_weights(trainer.arm)


def evaluate_untrained(ranks: Ranks, config: RunConfig, times: int = 1) -> Run:
    """Evaluates the initial weights, the last of some times."""
    trainer = make_trainer(ranks, config, "mean", 0)
    for _ in range(times):
        evaluation = trainer.evaluate()
    return Run([], evaluation.tasks, evaluation.sums, local_weights(trainer.arm), trainer.total_steps)


def untrained_evaluation(ranks: Ranks, config: RunConfig) -> Evaluation:
    """All that is measured of the initial weights."""
    return make_trainer(ranks, config, "mean", 0).evaluate()


def recorded_gramians(ranks: Ranks, config: RunConfig, recipe: str) -> list[bool]:
    """Whether each training step recorded a Gramian."""
    trainer = make_trainer(ranks, config, recipe, 0)
    layer, found = trainer.arm.balancing, []

    def look(*_: Any) -> None:
        if layer.record is not None:
            found.append(bool(layer.record.gramian.any()))

    layer.register_forward_pre_hook(look)  # at a step's forward, the record is that of the step before
    while not trainer.done:
        trainer.train_window(config.log_every)
    look()
    return found


def side_by_side(ranks: Ranks, config: RunConfig, arms: Sequence[str], seed: int) -> dict[str, ArmResult]:
    """Trains arms in turns, as a comparison does; logs go to the run directory."""
    dataset = open_dataset(config.data)
    session = Session(config, RowSource(dataset), make_plan(config, dataset.schema, ranks), ranks)
    return train_arms(session, arms, seed, Path(config.out))


def order_of_saving(ranks: Ranks, config: RunConfig) -> list[str]:
    """In which order logs reach the disk and checkpoints are begun."""
    order: list[str] = []
    sync, save = RunLog.sync, RunCheckpoints.save

    def sync_and_note(log: RunLog) -> None:
        order.append("log")
        sync(log)

    def save_and_note(checkpoints: RunCheckpoints, facts: Mapping[str, Any]) -> None:
        order.append("checkpoint")
        save(checkpoints, facts)

    with mock.patch.object(RunLog, "sync", sync_and_note), mock.patch.object(RunCheckpoints, "save", save_and_note):
        side_by_side(ranks, config, ["mean"], 0)
    return order


def weights_by_step(ranks: Ranks, config: RunConfig, recipe: str, steps: int) -> dict[str, Weights]:
    """All weights before the first step ("0") and after each one ("1", ...)."""
    schema = open_dataset(config.data).schema
    arm = build_arm(config, parse_recipe(recipe), 3, schema, make_plan(config, schema, ranks), ranks)
    pipeline = TrainPipelineSparseDist(arm.model, arm.optimizer, ranks.device, execute_all_batches=True)
    batches = iter(local_batches(config, ranks, steps))
    trace = {"0": local_weights(arm)}
    for step in range(steps):
        pipeline.progress(batches)
        trace[str(step + 1)] = local_weights(arm)
    return trace


def error_of_replicated_tables(ranks: Ranks, config: RunConfig) -> str:
    """The error that a plan with replicated tables ends in."""
    schema = open_dataset(config.data).schema
    tables = build_embedding_bags(schema, config.model)
    apply_table_optimizer(tables, config.optimizer, ranks.device)
    generators = {name: data_parallel() for name in schema.tables}
    module_plan = construct_module_sharding_plan(
        tables,
        generators,
        sharders()[0],
        ranks.world_size,
        ranks.world_size,
        "cpu",  # type: ignore[arg-type]
    )
    try:
        build_arm(
            config,
            parse_recipe("mean"),
            0,
            schema,
            ShardingPlan(plan={"embedding_bags": module_plan}),
            ranks,
        )
    except RuntimeError as error:
        return str(error)
    return "none"


def optimizer_keys(ranks: Ranks, config: RunConfig) -> dict[str, list[str]]:
    """Names of the parameters of the fused and of the dense optimizer, as the combined one keeps them."""
    schema = open_dataset(config.data).schema
    arm = build_arm(config, parse_recipe("mean"), 0, schema, make_plan(config, schema, ranks), ranks)
    names: dict[str, list[str]] = {"tables": [], "dense": []}
    for key, value in arm.optimizer.params.items():
        kind, _, name = key.partition(".")
        if not (isinstance(value, nn.Parameter) and value.numel() == 0):  # the schedule's own
            names[kind].append(name)
    return names


def reduce_sums(ranks: Ranks, buckets: int) -> tuple[Any, Any, list[TaskMetrics]]:
    """Metric sums of this rank's share of the example, reduced."""
    from tests.metrics.test_sums import example, slice_of, sums_of

    predictions = example()
    rows = len(predictions.rows)
    start, stop = (rows * rank // ranks.world_size for rank in (ranks.rank, ranks.rank + 1))
    sums = sums_of([slice_of(predictions, start, stop)], buckets)
    sums.reduce(ranks.group)
    return sums.sums.numpy(), torch.clone(sums.histogram).numpy(), sums.compute()
