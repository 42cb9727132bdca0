"""Worker functions: training runs with steps that are not finite on one rank."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributed._shard.sharded_tensor.api import ShardedTensor
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from dlrm_mtl.balancing.kernels.gradients import CutGradients, MixtureGradients
from dlrm_mtl.data.dataset import open_dataset
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.recipe import parse_recipe
from dlrm_mtl.run_config import RunConfig
from dlrm_mtl.training.arm import Arm, build_arm, make_plan
from dlrm_mtl.training.window import Window
from tests.distributed.training import Weights, local_batches, local_weights
from tests.training.runs import make_trainer

Fault = Literal["nan loss", "inf loss", "inf gradient"]
Faults = Mapping[int, Fault]
"""By training step."""

BROKEN_TASK = 1


def inject(arm: Arm, faults: Faults) -> None:
    """Injects faults into this rank's task 1 in some steps.

    "nan loss" and "inf loss": the loss is; the latter's derivative is as it was, as of a logit that overflows. "inf
    gradient": one element of the task's gradient with respect to the representation, of a loss that is finite.
    """
    part, step = arm.model.module.dense_part, -1

    def on_batch(dense_part: Any, inputs: Any) -> None:
        nonlocal step
        step += dense_part.training

    def on_losses(layer: Any, inputs: Any, losses: Tensor) -> Tensor:
        broken = torch.zeros_like(losses)
        if layer.training and faults.get(step) == "nan loss":
            return losses * torch.ones_like(losses).index_fill(0, torch.tensor([BROKEN_TASK]), torch.nan)
        if layer.training and faults.get(step) == "inf loss":
            broken[BROKEN_TASK] = torch.inf
        return losses + broken

    def on_gradients(cut: CutGradients) -> list[Tensor | None]:
        if faults.get(step) == "inf gradient":
            first, *others = cut
            assert not isinstance(first, MixtureGradients)
            gradient = first[BROKEN_TASK]
            assert gradient is not None
            cut = [(*first[:BROKEN_TASK], _with_one_infinite(gradient), *first[BROKEN_TASK + 1 :]), *others]
        return receive(cut)

    # Where the gradients arrive, whichever code ran the heads.
    receive = part.balancing.balance
    part.balancing.balance = on_gradients
    part.register_forward_pre_hook(on_batch)
    part.losses.register_forward_hook(on_losses)


def _with_one_infinite(gradient: Tensor) -> Tensor:
    gradient = gradient.clone()
    gradient[0, 1] = torch.inf
    return gradient


def everything(arm: Arm) -> Weights:
    """Weights, tables, balancer and optimizer state of this rank."""
    found = local_weights(arm)
    for name, state in arm.optimizer.state_dict()["state"].items():
        if not name.endswith("__warmup"):
            found |= {f"{name}/{key}": value for key, value in _arrays(state).items()}
    return found


def _arrays(state: Any, prefix: str = "") -> Weights:
    if isinstance(state, Mapping):
        return {k: v for key, value in state.items() for k, v in _arrays(value, f"{prefix}{key}/").items()}
    if isinstance(state, ShardedTensor):
        return {
            f"{prefix}{shard.metadata.shard_offsets}": shard.tensor.numpy().copy() for shard in state.local_shards()
        }
    return {prefix: state.detach().numpy().copy()} if isinstance(state, Tensor) else {}


@dataclass
class Trace:
    """Records of a rank."""

    states: list[Weights]
    """Before the first step and after each one."""
    skipped: list[bool]
    """By step."""
    nonfinite_tasks: list[int]
    """What this rank counted."""


def train(ranks: Ranks, config: RunConfig, recipe: str, kept: Sequence[int], faults: Faults, fault_rank: int) -> Trace:
    """Trains on some of the first global batches; the faults are of one rank, by position among those kept."""
    schema = open_dataset(config.data).schema
    arm = build_arm(config, parse_recipe(recipe), 3, schema, make_plan(config, schema, ranks), ranks)
    inject(arm, faults if ranks.rank == fault_rank else {})
    pipeline = TrainPipelineSparseDist(arm.model, arm.optimizer, ranks.device, execute_all_batches=True)
    batches = local_batches(config, ranks, max(kept) + 1)
    iterator = iter([batches[index] for index in kept])
    trace = Trace([everything(arm)], [], [])
    for _ in kept:
        pipeline.progress(iterator)
        trace.states.append(everything(arm))
        trace.skipped.append(bool(arm.optimizer.guard.skipped))
    trace.nonfinite_tasks = arm.balancing.nonfinite_tasks.tolist()
    return trace


def train_windows(
    ranks: Ranks, config: RunConfig, recipe: str, faults: Faults, fault_rank: int
) -> tuple[list[Window], int, str]:
    """Trains to the end, or until it is stopped.

    Returns:
        The windows, the number of skipped steps, and the error's message.
    """
    trainer = make_trainer(ranks, config, recipe, 0)
    inject(trainer.arm, faults if ranks.rank == fault_rank else {})
    windows: list[Window] = []
    while not trainer.done:
        try:
            windows.append(trainer.train_window(config.log_every))
        except ValueError as error:
            return windows, trainer.skipped_steps, str(error)
    return windows, trainer.skipped_steps, ""


def optimizer_after_initialization(ranks: Ranks, config: RunConfig, recipe: str) -> tuple[set[str], int]:
    """The parts of the optimizer's state, created by a step without effect, and the number of skipped steps."""
    schema = open_dataset(config.data).schema
    arm = build_arm(config, parse_recipe(recipe), 3, schema, make_plan(config, schema, ranks), ranks)
    arm.optimizer.init_state()
    state = arm.optimizer.state_dict()
    arm.optimizer.load_state_dict(state)
    return {name.split(".")[0] for name in state["state"]}, arm.optimizer.guard.take_counts().count
