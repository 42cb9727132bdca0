"""Worker functions: runs that end at a step and go on from there, and all that they are made of."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt
from torch import Tensor
from torch.distributed._shard.sharded_tensor.api import ShardedTensor

from dlrm_mtl.data.dataset import open_dataset
from dlrm_mtl.data.source import RowSource
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.run_config import RunConfig
from dlrm_mtl.training.arm import make_plan
from dlrm_mtl.training.checkpoints import RunCheckpoints
from dlrm_mtl.training.session import ArmTrainer, Session
from dlrm_mtl.training.window import Window
from tests.distributed.training import Weights, plan_by_hand


@dataclass
class Part:
    """A stretch of a run, as one rank saw it."""

    windows: list[list[Window]]
    """By arm, without the speed."""
    before: list[Weights]
    """By arm, when it began: weights, optimizer and balancer state, metrics; a shard's key ends in ``@row,column``."""
    after: list[Weights]
    """Likewise, at its end."""
    said: str
    """On stderr."""


def run_part(
    ranks: Ranks,
    config: RunConfig,
    directory: Path,
    arms: Sequence[str],
    until: int | None = None,
    kind: str | None = None,
) -> Part | str:
    """Goes on with a run from its newest checkpoint, if there is one, to a step or the end, and writes a checkpoint.

    Args:
        kind: sharding type of every table, by hand; None: the planner's choice.

    Returns:
        the message, if the checkpoint is refused.
    """
    dataset = open_dataset(config.data)
    plan = make_plan(config, dataset.schema, ranks)
    if kind is not None:
        plan = plan_by_hand(config, dataset.schema, ranks, kind)
    session = Session(config, RowSource(dataset), plan, ranks)
    trainers = {arm: session.trainer(arm, 0) for arm in arms}
    said = io.StringIO()
    with contextlib.redirect_stderr(said), RunCheckpoints(session, trainers, directory) as checkpoints:
        try:
            checkpoints.restore()
        except ValueError as error:
            return str(error)
        before = [state_of(trainer) for trainer in trainers.values()]
        windows = []
        for trainer in trainers.values():
            windows.append(_train(trainer, config.log_every, until))
        checkpoints.save({})
    return Part(windows, before, [state_of(trainer) for trainer in trainers.values()], said.getvalue())


def state_of(trainer: ArmTrainer) -> Weights:
    state: Weights = {}
    for name, value in trainer.state("arm").items():
        if isinstance(value, ShardedTensor):
            for shard in value.local_shards():
                row, *column = shard.metadata.shard_offsets  # no column, where there is one value per row
                values = _numbers(shard.tensor)
                state[f"{name}@{row},{column[0] if column else 0}"] = values.reshape(len(values), -1)
        else:
            state[name] = _numbers(value)
    return state


def _train(trainer: ArmTrainer, steps: int, until: int | None) -> list[Window]:
    windows = []
    while not trainer.done and (until is None or trainer.step < until):
        windows.append(replace(trainer.train_window(steps), qps=None))
    return windows


def _numbers(value: Tensor) -> npt.NDArray[Any]:
    return value.detach().cpu().numpy().copy()
