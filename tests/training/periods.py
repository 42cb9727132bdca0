"""Worker functions: training that goes on from one period's data set to the next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from dlrm_mtl.data.dataset import open_dataset
from dlrm_mtl.data.source import RowSource
from dlrm_mtl.distributed.checkpoint_directory import list_checkpoints
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.run_config import RunConfig
from dlrm_mtl.training.arm import make_plan
from dlrm_mtl.training.checkpoints import DIRECTORY, RunCheckpoints
from dlrm_mtl.training.loop import ArmResult, train_period
from dlrm_mtl.training.pipeline import build_pipeline
from dlrm_mtl.training.session import ArmTrainer, Session
from dlrm_mtl.training.state.init_from import Start
from dlrm_mtl.training.trainer import Trainer
from tests.distributed.training import Weights, plan_by_hand
from tests.training.resuming import state_of

Logits = dict[int, list[float]]
"""By row of the split."""


@dataclass
class Begun:
    """Arms that were started and not trained, as one rank saw them."""

    state: dict[str, Weights]
    """By arm."""
    logits: dict[str, Logits]
    """By arm, of the rows of the period; empty for a model per task."""
    steps: tuple[int, int, int]
    """First step, present step, and the one at which training ends."""


@dataclass
class Trained:
    """A period that was trained, as one rank saw it."""

    results: dict[str, ArmResult]
    state: dict[str, Weights] = field(default_factory=dict)
    """Of the last checkpoint, loaded again; by arm."""


def session_of(ranks: Ranks, config: RunConfig, tasks: Sequence[str] | None = None, kind: str | None = None) -> Session:
    dataset = open_dataset(config.data)
    dataset = dataset if tasks is None else dataset.of_tasks(tasks)
    plan = plan_by_hand(config, dataset.schema, ranks, kind) if kind else make_plan(config, dataset.schema, ranks)
    return Session(config, RowSource(dataset), plan, ranks)


def begin(
    ranks: Ranks,
    config: RunConfig,
    arms: Sequence[str],
    start: Start | None = None,
    tasks: Sequence[str] | None = None,
    kind: str | None = None,
) -> Begun | str:
    """Starts arms with the data set of a period; or the message, if the start is refused."""
    session = session_of(ranks, config, tasks, kind)
    trainers = {arm: session.trainer(arm, 0) for arm in arms}
    with RunCheckpoints(session, trainers, config.out / "begun") as checkpoints:
        try:
            checkpoints.restore(start)
        except ValueError as error:
            return str(error)
    one = trainers[arms[0]]
    begun = Begun(
        {arm: state_of(trainer) for arm, trainer in trainers.items()},
        {arm: _logits(trainer) for arm, trainer in trainers.items()},
        (one.first_step, one.step, one.total_steps),
    )
    for trainer in trainers.values():
        trainer.close()
    return begun


def train(
    ranks: Ranks,
    config: RunConfig,
    arms: Sequence[str],
    start: Start | None = None,
    tasks: Sequence[str] | None = None,
    kind: str | None = None,
    with_state: bool = True,
) -> Trained:
    """Evaluates arms and trains them; ``config.out`` gets evaluation and checkpoint."""
    session = session_of(ranks, config, tasks, kind)
    results = train_period(session, arms, 0, config.out, start)
    if not with_state:
        return Trained(results)
    again = {arm: session.trainer(arm, 0) for arm in arms}
    with RunCheckpoints(session, again, config.out) as checkpoints:
        checkpoints.restore()
    state = {arm: state_of(trainer) for arm, trainer in again.items()}
    for trainer in again.values():
        trainer.close()
    return Trained(results, state)


def uninterrupted(ranks: Ranks, configs: Sequence[RunConfig], arm: str) -> Weights:
    """Trains one model on several data sets without ending in between."""
    torch.manual_seed(0)
    trainer: Trainer | None = None
    for config in configs:
        session = session_of(ranks, config)
        following = session.trainer(arm, 0)
        assert isinstance(following, Trainer)
        if trainer is not None:
            trainer.pipeline.detach()
            following.arm, following.pipeline = trainer.arm, build_pipeline(trainer.arm, ranks.device)
        trainer = following
        while not trainer.done:
            trainer.train_window(config.log_every)
        trainer.close()
    assert trainer is not None
    return state_of(trainer)


def last_checkpoint(directory: Path) -> Path:
    return list_checkpoints(directory / DIRECTORY)[0]


def joined(parts: Sequence[Mapping[int, list[float]]]) -> Logits:
    """The rows of all ranks."""
    return {row: values for part in parts for row, values in part.items()}


def _logits(trainer: ArmTrainer) -> Logits:
    if not isinstance(trainer, Trainer):
        return {}
    found: Logits = {}
    for predictions in trainer.evaluator.predictions():
        rows: list[int] = predictions.rows.tolist()
        found |= {row: values for row, values in zip(rows, predictions.logits.tolist(), strict=True) if row >= 0}
    return found
