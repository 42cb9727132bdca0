"""Checkpoints of sharded tensors: written while training goes on, read on any number of ranks under any plan."""

import shutil
import sys
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed._shard.sharded_tensor.api import ShardedTensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from dlrm_mtl.distributed.checkpoint_directory import (
    complete,
    find_damage,
    list_checkpoints,
    partial_path,
    read_manifest,
    record_files,
    remove,
    remove_unfinished,
)
from dlrm_mtl.distributed.checkpoint_format import TensorReader, TensorWriter
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.distributed.tensor_description import DESCRIPTION, StoredTensor, check_places, read_description

Tensors = Mapping[str, Tensor | ShardedTensor]


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint on disk."""

    path: Path
    facts: Mapping[str, Any]
    """What was given to :meth:`CheckpointWriter.save`, and ``step``."""
    tensors: Mapping[str, StoredTensor]

    @cached_property
    def sizes(self) -> Mapping[str, torch.Size]:
        """Size of every tensor, by name."""
        return {name: torch.Size(tensor.size) for name, tensor in self.tensors.items()}

    @property
    def step(self) -> int:
        return int(self.facts["step"])


class CheckpointWriter:
    """Writes the checkpoints of a run to a directory. Creating one and saving are collective.

    A checkpoint is copied to host memory and written by a thread while training goes on. It gets its final name when
    every rank's part is on the disk. If writing fails (a full disk), rank 0 says so on stderr, this checkpoint is
    dropped, earlier ones stay, and training goes on.

    Args:
        keep: number of checkpoints that are kept, the newest ones.
        timeout_s: seconds that the writing threads of the ranks wait for each other.
        completed: called by the writing thread of rank 0 with a checkpoint's step and the seconds that it took.
    """

    def __init__(
        self,
        directory: Path,
        keep: int,
        ranks: Ranks,
        timeout_s: int,
        completed: Callable[[int, float], object] = lambda step, seconds: None,
    ) -> None:
        self._directory = directory
        self._keep = keep
        self._ranks = ranks
        self._completed = completed
        # A group of its own, since its collectives run beside those of the training.
        self._group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_s))
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def save(self, step: int, tensors: Tensors, facts: Mapping[str, Any]) -> None:
        """Starts to write a checkpoint, once the previous one is written.

        Args:
            tensors: this rank's. A tensor that is not sharded must be equal on all ranks that have one of its name.
            facts: JSON values, the same on every rank.
        """
        self.wait()
        began = time.monotonic()
        self._writing = self._thread.submit(self._write, step, _copy_to_host(tensors), facts, began)

    def report(self) -> None:
        """Reports a checkpoint that has failed by now, without waiting."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Waits until the last checkpoint is written or has failed."""
        if self._writing is None:
            return
        writing, self._writing = self._writing, None
        try:
            writing.result()
        except Exception as error:  # none may end the training
            if self._ranks.is_first:
                reason = " ".join(str(error).split())
                print(f"checkpoint NOT written, training goes on: {reason}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Waits as :meth:`wait` does, and frees what the writer holds."""
        self.wait()
        self._thread.shutdown()
        dist.destroy_process_group(self._group)

    def _write(self, step: int, tensors: dict[str, Any], facts: Mapping[str, Any], began: float) -> None:
        partial = partial_path(self._directory, step)
        first = self._ranks.is_first
        try:
            self._run_on_all(lambda: _make_empty(partial) if first else None)
            try:
                save(
                    tensors,
                    storage_writer=TensorWriter(partial),
                    planner=DefaultSavePlanner(flatten_state_dict=False, flatten_sharded_tensors=False),
                    process_group=self._group,
                )
            except CheckpointException as error:
                raise OSError(_first_failure(error)) from None
            mine = sorted(file.name for file in partial.glob(f"__{self._ranks.rank}_*.distcp"))
            records = self._run_on_all(lambda: record_files(partial, [*mine, *([DESCRIPTION] if first else [])]))
            files = [record for rank in records for record in rank]
            self._run_on_all(lambda: complete(self._directory, step, facts, files, self._keep) if first else None)
            if first:
                self._completed(step, time.monotonic() - began)
        except Exception:
            if first:
                shutil.rmtree(partial, ignore_errors=True)
            raise

    def _run_on_all(self, action: Callable[[], Any]) -> list[Any]:
        """Every rank's result. An action that fails on one rank fails on all."""
        outcome: tuple[bool, Any]
        try:
            outcome = (True, action())
        except Exception as error:
            outcome = (False, f"{type(error).__name__}: {error}")
        outcomes: list[tuple[bool, Any] | None] = [None] * self._ranks.world_size
        dist.all_gather_object(outcomes, outcome, group=self._group)
        for rank, (succeeded, value) in enumerate(filter(None, outcomes)):
            if not succeeded:
                raise OSError(f"rank {rank}: {value}")
        return [value for _, value in filter(None, outcomes)]


def find_checkpoint(directory: Path, ranks: Ranks) -> Checkpoint | None:
    """The newest intact checkpoint; None if there are no checkpoints. Collective.

    Unfinished checkpoints are removed and damaged ones skipped, with a line on stderr each.

    Raises:
        ValueError: there are checkpoints, but all are damaged.
    """
    for path in ranks.broadcast(remove_unfinished(directory) if ranks.is_first else []):
        _say(ranks, f"{path}: a checkpoint that was not finished, removed")
    damaged = []
    for path in ranks.broadcast(list_checkpoints(directory) if ranks.is_first else []):
        try:
            return open_checkpoint(path, ranks)
        except ValueError as error:
            damaged.append(str(error))
            _say(ranks, f"damaged checkpoint skipped: {error}")
    if damaged:
        raise ValueError(f"{directory}: every checkpoint is damaged; to start anew, remove them or give another --out")
    return None


def open_checkpoint(path: Path, ranks: Ranks) -> Checkpoint:
    """Opens a checkpoint and verifies all its bytes. Collective.

    Raises:
        ValueError: it is missing or damaged; on every rank.
    """

    def check() -> tuple[dict[str, Any], dict[str, StoredTensor]]:
        manifest = read_manifest(path)
        damage = find_damage(path, manifest, ranks.rank, ranks.world_size)
        if damage is not None:
            raise ValueError(f"{path}: {damage}")
        tensors = read_description(path)
        try:
            check_places(tensors, {name: record["bytes"] for name, record in manifest["files"].items()})
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        return manifest, tensors

    return Checkpoint(path, *ranks.run_on_all(check))


def load_tensors(
    checkpoint: Checkpoint,
    targets: Tensors,
    names: Collection[str],
    ranks: Ranks,
    grown: Mapping[str, tuple[int, int]] = MappingProxyType({}),
) -> dict[str, Tensor]:
    """Reads tensors from a checkpoint. Collective.

    Args:
        targets: sharded tensors to fill in place, each rank's own; their sizes are the checkpoint's, unless they have
            grown.
        names: further tensors, which are returned whole, in host memory.
        grown: of targets, see :class:`TensorReader`.

    Returns:
        the tensors of ``names``.

    Raises:
        ValueError: a tensor is missing, or a file cannot be read or holds something else than tensors; on every rank.
    """
    missing = sorted(set(names) - checkpoint.tensors.keys())
    if missing:
        raise ValueError(f"{checkpoint.path}: has no {missing[0]}, which this run needs")
    stored = {name: checkpoint.tensors[name] for name in {*targets, *names}}
    whole = {name: torch.empty(stored[name].size, dtype=stored[name].metadata.properties.dtype) for name in names}
    try:
        load(
            {**targets, **whole},
            storage_reader=TensorReader(checkpoint.path, stored, grown),
            planner=DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False),
            process_group=ranks.group,
        )
    except CheckpointException as error:
        raise ValueError(f"{checkpoint.path}: cannot be read ({_first_failure(error)})") from None
    return whole


@torch.no_grad()
def _copy_to_host(tensors: Tensors) -> dict[str, Any]:
    """Copies every tensor. torch's stager would copy the storage that a rank's tables share once for each table."""
    return {name: value.to(device="cpu", copy=True) for name, value in tensors.items()}


def _make_empty(directory: Path) -> None:
    remove(directory)
    directory.mkdir(parents=True)


def _first_failure(error: CheckpointException) -> str:
    """The error of the first rank that failed, in one line."""
    rank, (cause, _) = min(error.failures.items())
    first_line = str(cause).strip().split("\n")[0]
    return f"rank {rank}: {type(cause).__name__}: {first_line}"


def _say(ranks: Ranks, text: str) -> None:
    if ranks.is_first:
        print(text, file=sys.stderr, flush=True)
