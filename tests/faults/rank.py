"""One rank of a training run with built-in faults, which records the rows it trained on."""

import json
import os
import resource
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

import dlrm_mtl.reporting.seed_summary
import dlrm_mtl.training.session  # noqa: F401
from dlrm_mtl import cli, train
from dlrm_mtl.models.losses import TaskLosses
from dlrm_mtl.training import pipeline as pipeline_module
from dlrm_mtl.training.trainer import Trainer
from tests.preloaded import rank_variables

SMALL_FILE = 600_000
"""Size limit of files on a simulated full disk in bytes: more than any log, less than a rank's part of a checkpoint."""


@dataclass(frozen=True)
class Faults:
    """Faults of the ranks in one attempt."""

    kill: tuple[int, int] | None = None
    """(rank, step): SIGKILL to itself before the step."""
    terminate: tuple[int, int] | None = None
    """(rank, step): SIGTERM to itself before the step."""
    nan: tuple[int, int, int] | None = None
    """(rank, step, task): the loss of that task is not a number."""
    full_disk: tuple[int, int] | None = None
    """(first step, last step): on every rank, files cannot grow beyond :data:`SMALL_FILE` bytes."""
    vanish: tuple[int, int, str] | None = None
    """(rank, step, file): the file is renamed before the step."""


def run_rank(
    rank: int, world_size: int, port: int, arguments: Sequence[str], trace: Path, log: Path, faults: Faults
) -> None:
    """Runs ``dlrm_mtl.train`` as this process; its output goes to ``log``."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")  # not what the parent may have put in their places
    os.environ.update(rank_variables(rank, world_size, port))
    sys.argv = ["train", *arguments]
    _build_in(rank, trace, faults)
    cli.run("train", train.main)


def _build_in(rank: int, trace: Path, faults: Faults) -> None:
    """Wraps training steps; training, saving and logging are unchanged."""
    present: dict[str, Any] = {"step": 0, "rows": None}
    plain_step, plain_losses = Trainer._train_step, TaskLosses.forward
    lines = trace.open("a")

    class Pipeline(TrainPipelineSparseDist):
        def progress(self, dataloader_iter: Iterator[Any]) -> Any:
            predictions = super().progress(dataloader_iter)
            present["rows"] = predictions.rows.tolist()
            return predictions

    def step(self: Trainer) -> None:
        present["step"] = self.step
        _strike(rank, self.step, faults)
        plain_step(self)
        lines.write(json.dumps([self.step - 1, present["rows"]]) + "\n")
        lines.flush()

    def losses(self: TaskLosses, logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        values = plain_losses(self, logits, labels, weights)
        if faults.nan is not None and faults.nan[:2] == (rank, present["step"]):
            values = values.clone()
            values[faults.nan[2]] *= float("nan")
        return values

    pipeline_module.TrainPipelineSparseDist = Pipeline  # type: ignore[attr-defined]
    Trainer._train_step = step  # type: ignore[method-assign]
    TaskLosses.forward = losses  # type: ignore[method-assign]


def _strike(rank: int, step: int, faults: Faults) -> None:
    if faults.kill == (rank, step):
        os.kill(os.getpid(), signal.SIGKILL)
    if faults.terminate == (rank, step):
        os.kill(os.getpid(), signal.SIGTERM)
    if faults.full_disk is not None:
        room = SMALL_FILE if faults.full_disk[0] <= step <= faults.full_disk[1] else resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    if faults.vanish is not None and faults.vanish[:2] == (rank, step):
        os.rename(faults.vanish[2], f"{faults.vanish[2]}.gone")
