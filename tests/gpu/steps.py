"""Worker functions: training steps on a GPU, and the places where the host waited for it."""

import traceback
import warnings
from pathlib import Path
from typing import Any

import torch

from dlrm_mtl.config import ReaderConfig, ShardingConfig
from dlrm_mtl.data.dataset import open_dataset
from dlrm_mtl.distributed.plan_records import describe_plan
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.metrics.sums import MetricSums
from dlrm_mtl.recipe import parse_recipe
from dlrm_mtl.run_config import RunConfig
from dlrm_mtl.schema import Schema
from dlrm_mtl.training.arm import Arm, build_arm, make_plan
from dlrm_mtl.training.pipeline import build_pipeline
from tests.distributed import training
from tests.distributed.training import local_batches, local_weights
from tests.training import runs
from tests.training.runs import Run

WARM_UP = 3
"""First steps, in which kernels and DistributedDataParallel read sizes on the host."""
EXCHANGE_OF_IDS = {"start_sparse_data_dist", "wait_sparse_data_dist"}
"""torchrec's functions in which the host reads the number of ids from each rank."""


def run_config(directory: Path, **changes: Any) -> RunConfig:
    """Without reader processes, which take longer to start than such runs last; an entry point's test has one."""
    return training.run_config(directory, **{"reader": ReaderConfig(workers=0), **changes})


def _arm(ranks: Ranks, config: RunConfig, recipe: str) -> Arm:
    schema = open_dataset(config.data).schema
    return build_arm(config, parse_recipe(recipe), 3, schema, make_plan(config, schema, ranks), ranks)


def steps_that_never_wait(ranks: Ranks, config: RunConfig, recipe: str) -> int:
    """Trains; a wait of the host between the lookup of the embeddings and the end of the step is an error.

    Returns:
        the number of steps.
    """
    arm = _arm(ranks, config, recipe)
    sums = MetricSums(["binary"] * 3, ranks.device)
    batches = [batch.to(ranks.device) for batch in local_batches(config, ranks, WARM_UP + 4)]
    strict = False

    def forbid_waits(*_: Any) -> None:
        torch.cuda.set_sync_debug_mode("error" if strict else "default")

    arm.model.module.dense_part.register_forward_pre_hook(forbid_waits)
    for index, batch in enumerate(batches):
        strict = index >= WARM_UP
        if index == len(batches) - 1:
            arm.balancing.observe()
        arm.optimizer.zero_grad()
        try:
            losses, predictions = arm.model(batch)
            losses.sum().backward()
            arm.optimizer.step()
            sums.update(predictions, arm.optimizer.guard.skipped)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return len(batches)


def waits_of_the_pipeline(ranks: Ranks, config: RunConfig, recipe: str) -> list[str]:
    """Places where the host waits in the pipeline's steps, except torchrec's exchange of ids."""
    arm = _arm(ranks, config, recipe)
    pipeline = build_pipeline(arm, ranks.device)
    batches = iter([batch.pin_memory() for batch in local_batches(config, ranks, WARM_UP + 4)])
    for _ in range(WARM_UP):
        pipeline.progress(batches)
    found: list[str] = []

    def look(message: Warning | str, *_: Any, **__: Any) -> None:
        stack = traceback.extract_stack()
        if "called a synchronizing" in str(message) and not EXCHANGE_OF_IDS & {frame.name for frame in stack}:
            found.append("".join(traceback.format_list(stack[-6:])))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = look
        torch.cuda.set_sync_debug_mode("warn")
        try:
            for _ in range(4):
                pipeline.progress(batches)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return found


def train_described(ranks: Ranks, config: RunConfig, recipe: str) -> tuple[Run, str, set[str]]:
    """A run with an evaluation after each window, the name of its pipeline, and the kernels of its tables."""
    trainer = runs.make_trainer(ranks, config, recipe, 0)
    windows = []
    while not trainer.done:
        windows.append(trainer.train_window(config.log_every))
        evaluation = trainer.evaluate()
    run = Run(windows, evaluation.tasks, evaluation.sums, local_weights(trainer.arm), trainer.total_steps)
    plan = make_plan(config, open_dataset(config.data).schema, ranks)
    return run, type(trainer.pipeline).__name__, {table["compute_kernel"] for table in describe_plan(plan)}


def train_in_tf32(ranks: Ranks, config: RunConfig, recipe: str) -> Run:
    torch.set_float32_matmul_precision("high")
    try:
        return runs.train(ranks, config, recipe)
    finally:
        torch.set_float32_matmul_precision("highest")


def plan_or_error(ranks: Ranks, schema: Schema, sharding: ShardingConfig) -> Any:
    """The kernel of each table, or the message of a ValueError."""
    config = run_config(Path("unused"), sharding=sharding)
    try:
        return {table["table"]: table["compute_kernel"] for table in describe_plan(make_plan(config, schema, ranks))}
    except ValueError as error:
        return str(error)
