"""A minimal training run of one rank in this process."""

import itertools
from contextlib import ExitStack
from pathlib import Path

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.distributed.processes import Ranks, process_group
from dlrm_mtl.distributed.quiet import silence_known_warnings
from dlrm_mtl.run_config import TrainConfig
from dlrm_mtl.training.loop import train_arms
from dlrm_mtl.training.session import Session, prepare

MODEL = ModelConfig(embedding_dim=4, bottom_mlp=(4,), head_mlp=(4,))


class Runs:
    """Begins runs on a data set, each in a directory of its own."""

    def __init__(self, directory: Path, data: Path) -> None:
        silence_known_warnings()
        self._directory = directory
        self._data = data
        self._numbers = itertools.count()
        self._group = ExitStack()
        self.ranks: Ranks = self._group.enter_context(process_group(600))

    def prepare(self, out: Path | None = None, **options: object) -> Session:
        """Everything before the first step."""
        out = out or self._directory / f"run-{next(self._numbers)}"
        config = TrainConfig(
            self._data,
            out,
            batch_size=16,
            max_steps=2,
            log_every=1,
            arm="mean",
            model=MODEL,
            **options,  # type: ignore[arg-type]
        )
        return prepare(config, ["mean"], self.ranks)

    def train(self, session: Session) -> Path:
        """Trains to the end; the run's directory."""
        train_arms(session, ["mean"], 0, session.config.out)
        return session.config.out
