"""Checkpoints of small tensors: worker functions, and changed files."""

import contextlib
import io
import resource
from pathlib import Path
from typing import Any

import torch
from torch.distributed._shard.sharded_tensor.api import ShardedTensor
from torch.distributed._shard.sharded_tensor.shard import Shard

from dlrm_mtl.distributed.checkpoint import CheckpointWriter, find_checkpoint, load_tensors
from dlrm_mtl.distributed.checkpoint_directory import MANIFEST, read_manifest, record_files, write_manifest
from dlrm_mtl.distributed.processes import Ranks

SIZE = 100_000


def values(step: int) -> dict[str, torch.Tensor]:
    return {"weights": torch.arange(SIZE, dtype=torch.float32) + step, "count": torch.tensor(step)}


def write(
    ranks: Ranks, directory: Path, steps: list[int], keep: int = 2, full: list[int] | None = None, on_rank: int = 0
) -> str:
    """Writes a checkpoint at each step; at the steps in ``full`` one rank's disk is full.

    Returns:
        the output on stderr.
    """
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        writer = CheckpointWriter(directory, keep, ranks, timeout_s=30)
        for step in steps:
            with _no_room() if step in (full or []) and ranks.rank == on_rank else contextlib.nullcontext():
                tensors = values(step)
                writer.save(step, {**tensors, f"rank-{ranks.rank}/own": torch.ones(SIZE)}, {"note": f"step {step}"})
                tensors["weights"].zero_()  # training goes on while the checkpoint is written
                writer.wait()
        writer.close()
    return said.getvalue()


def write_one_table(ranks: Ranks, directory: Path, tables: int, rows: int) -> tuple[int, bool]:
    """Writes one of several tables of one column, which share a storage like the tables of a rank.

    Returns:
        by how many bytes the process grew before training continued, and whether reading gives the same values.
    """
    storage = torch.arange(tables * rows, dtype=torch.float32).view(tables, rows, 1)

    def sharded(table: torch.Tensor) -> dict[str, ShardedTensor]:
        shard = Shard.from_tensor_and_offsets(table, [0, 0], ranks.rank)
        return {"table": ShardedTensor._init_from_local_shards([shard], rows, 1)}

    writer = CheckpointWriter(directory, keep=1, ranks=ranks, timeout_s=30)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _peak_bytes()
    writer.save(1, sharded(storage[1]), {})
    growth = _peak_bytes() - before
    expected = storage[1].clone()
    storage.zero_()  # training goes on while the checkpoint is written
    writer.close()
    found = find_checkpoint(directory, ranks)
    assert found is not None
    load_tensors(found, sharded(storage[0]), [], ranks)
    return growth, torch.equal(storage[0], expected)


def read(ranks: Ranks, directory: Path) -> tuple[Any, str]:
    """The newest complete checkpoint, as (step, note, whether its tensors are those of the step), or the error; and the
    output on stderr."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            checkpoint = find_checkpoint(directory, ranks)
            if checkpoint is None:
                return None, said.getvalue()
            loaded = load_tensors(checkpoint, {}, ["weights", "count"], ranks)
        except ValueError as error:
            return str(error), said.getvalue()
    expected = values(checkpoint.step)
    equal = all(torch.equal(loaded[name], value) for name, value in expected.items())
    return (checkpoint.step, checkpoint.facts["note"], equal), said.getvalue()


def reseal(path: Path) -> None:
    """Gives a changed checkpoint matching checksums."""
    manifest = read_manifest(path)
    for name, size, checksum in record_files(path, [file.name for file in path.iterdir() if file.name != MANIFEST]):
        manifest["files"][name] = {"bytes": size, "sha256": checksum}
    write_manifest(path, manifest)


@contextlib.contextmanager
def _no_room() -> Any:
    """Limits files to 100 kB, so that writing fails in the middle, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _peak_bytes() -> int:
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return 1024 * int(line.split()[1])
