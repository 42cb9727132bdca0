"""The training session of a benchmark: the default model and a temporary run directory."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from dlrm_mtl.benchmarks.cases import Case
from dlrm_mtl.benchmarks.windows import Contender
from dlrm_mtl.config import ModelConfig, ReaderConfig
from dlrm_mtl.data.batch import MultiTaskBatch
from dlrm_mtl.data.reader import TrainingReader, batches
from dlrm_mtl.distributed.processes import process_group
from dlrm_mtl.distributed.versions import check_versions
from dlrm_mtl.files import read_json
from dlrm_mtl.run_config import CompareConfig
from dlrm_mtl.training.session import ArmTrainer, Session, prepare

DEFAULT_ARM = "multibalance"

ARMS = ("mean", DEFAULT_ARM)

EVEN_READING = ReaderConfig(shuffle_rows=16_384)
"""Rows of a shuffle: one row group. A shuffle of the default size takes as long as a window, and would fall into some
windows only."""

ENDLESS = 1_000_000
"""Number of epochs, more than any benchmark trains."""


@contextmanager
def open_benchmark(
    case: Case,
    directory: Path | None = None,
    reader: ReaderConfig | None = None,
    arms: tuple[str, ...] = ARMS,
    model: ModelConfig | None = None,
) -> Iterator[Session]:
    """Opens a session that can train for any number of steps. Collective.

    Args:
        directory: parent of the run directory; by default that of temporary files.
        model: by default the default model.

    Raises:
        ValueError: see :func:`dlrm_mtl.training.session.prepare`.
    """
    models = {"run": ModelConfig() if model is None else model}
    with open_benchmarks(case, models, directory, reader, arms) as sessions:
        yield sessions["run"]


@contextmanager
def open_benchmarks(
    case: Case,
    models: Mapping[str, ModelConfig],
    directory: Path | None = None,
    reader: ReaderConfig | None = None,
    arms: tuple[str, ...] = ARMS,
) -> Iterator[dict[str, Session]]:
    """Opens a session for each model, all in one process group; otherwise as :func:`open_benchmark`."""
    check_versions()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=directory) as out:
        configs = {
            name: CompareConfig(
                case.data,
                Path(out) / str(number),
                case.batch_size,
                epochs=ENDLESS,
                arms=arms,
                model=model,
                reader=ReaderConfig() if reader is None else reader,
            )
            for number, (name, model) in enumerate(models.items())
        }
        with process_group(next(iter(configs.values())).timeout_s) as ranks:
            yield {name: prepare(config, arms, ranks) for name, config in configs.items()}


def read_environment(session: Session) -> dict[str, Any]:
    """Versions, machine, command and time, on every rank. Collective."""
    file = session.config.out / "environment.json"
    return session.ranks.broadcast(read_json(file) if session.ranks.is_first else {})


def read_batch(session: Session) -> MultiTaskBatch:
    """This rank's first training batch, on its device."""
    config, ranks = session.config, session.ranks
    rows = config.local_batch_size(ranks.world_size)
    reader = TrainingReader(session.source, rows, 0, ranks.rank, ranks.world_size, config.reader.shuffle_rows)
    [batch] = islice(batches(reader, ReaderConfig(workers=0), pin_memory=False), 1)
    return batch.to(ranks.device)


def train_windows(session: Session, trainers: Sequence[ArmTrainer]) -> Contender:
    """A unit of work is one window of each trainer in turn, with reading, metrics and diagnostics."""
    turns = cycle(trainers)

    def window() -> int:
        trained = next(turns).train_window(session.config.log_every)
        return (trained.last_step - trained.first_step) * session.config.batch_size

    return window
