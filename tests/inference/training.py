"""Worker functions: runs whose checkpoints are loaded, and predictions of the loaded models."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dlrm_mtl.config import ReaderConfig
from dlrm_mtl.data.dataset import open_dataset
from dlrm_mtl.data.reader import EvaluationReader
from dlrm_mtl.data.source import RowSource
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.inference.loading import load_model
from dlrm_mtl.inference.stored_model import open_stored_model
from dlrm_mtl.models.ranker import Predictions
from dlrm_mtl.run_config import RunConfig
from dlrm_mtl.training.arm import make_plan
from dlrm_mtl.training.checkpoints import RunCheckpoints
from dlrm_mtl.training.session import Session
from dlrm_mtl.training.trainer import Trainer
from tests.distributed.training import plan_by_hand

Logits = dict[int, list[float]]
"""Of the M tasks, by the row's position in the split."""


def train_and_predict(
    ranks: Ranks, config: RunConfig, directory: Path, arms: Sequence[str], kind: str | None = None
) -> list[Logits]:
    """Trains a window, writes a checkpoint, and predicts this rank's share of the eval split with each arm; a model per
    task predicts its own."""
    dataset = open_dataset(config.data)
    plan = plan_by_hand(config, dataset.schema, ranks, kind) if kind else make_plan(config, dataset.schema, ranks)
    session = Session(config, RowSource(dataset), plan, ranks)
    trainers = {arm: session.trainer(arm, 0) for arm in arms}
    predicted: list[Logits] = []
    with RunCheckpoints(session, trainers, directory) as checkpoints:
        for trainer in trainers.values():
            trainer.train_window(config.log_every)
            models = [trainer] if isinstance(trainer, Trainer) else list(trainer._trainers.values())
            parts = [_predicted_by(model) for model in models]
            predicted.append({row: [value for part in parts for value in part[row]] for row in parts[0]})
        checkpoints.save({})
    ranks.watch.pause()
    return predicted


def load_and_predict(ranks: Ranks, path: Path, arm: str, data: Path, batch_size: int = 48) -> Logits | str:
    """Predicts this rank's share of the eval split with a stored model, or says why it cannot be loaded."""
    try:
        model = load_model(open_stored_model(path, arm), ranks, batch_size)
    except ValueError as error:
        return str(error)
    reader = EvaluationReader(RowSource(open_dataset(data)), batch_size, ranks.rank, ranks.world_size)
    logits: Logits = {}
    for predictions in model.predict(reader, ReaderConfig(), ranks):
        logits |= _by_row(predictions)
    return logits


def _predicted_by(trainer: Trainer) -> Logits:
    logits: Logits = {}
    for predictions in trainer.evaluator.predictions():
        logits |= _by_row(predictions)
    return logits


def _by_row(predictions: Predictions) -> Logits:
    rows: list[int] = predictions.rows.tolist()
    return {row: values for row, values in zip(rows, predictions.logits.tolist(), strict=True) if row >= 0}


def in_order(parts: Sequence[Any]) -> npt.NDArray[np.float64]:
    """(N, M) logits of all ranks, by row."""
    together = {row: values for part in parts for row, values in part.items()}
    return np.array([together[row] for row in sorted(together)])
