"""Looks at every shard before a run begins or goes on: its values, its bytes. Ranks share the work; the caller gathers
what they found, so that all end with the same data set."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from dlrm_mtl.config import OnBadShard
from dlrm_mtl.data.checks import bad_values
from dlrm_mtl.data.dataset import Dataset
from dlrm_mtl.data.shards import BadShard, DataRecord, ShardRecord
from dlrm_mtl.schema import Shard


def inspect_values(dataset: Dataset, on_bad_shard: OnBadShard, rank: int, world_size: int) -> tuple[BadShard, ...]:
    """Checks every value of this rank's share of the row groups.

    Returns:
        The shards with a fault. Two ranks may find the same one.

    Raises:
        ValueError: the first fault, unless bad shards are skipped.
    """
    return _collect(bad_values(dataset, rank, world_size), on_bad_shard)


def fingerprint_shards(dataset: Dataset, on_bad_shard: OnBadShard, rank: int, world_size: int) -> DataRecord:
    """Reads the bytes of this rank's share of the shards, and compares their checksums with those of schema.json, where
    it has any.

    Returns:
        This rank's part of the record that :func:`combine` makes.

    Raises:
        ValueError: the first fault, unless bad shards are skipped.
    """
    records = []
    row_groups: dict[tuple[str, Path], list[int]] = defaultdict(list)
    for split, groups in dataset.row_groups.items():
        for group in groups:
            row_groups[split, group.file].append(group.rows)

    def faults() -> Iterator[BadShard]:
        for split, shard in dataset.shards[rank::world_size]:
            path = dataset.directory / shard.file
            try:
                records.append(_record(path, split, shard, row_groups[split, path]))
            except ValueError as error:
                yield BadShard(split, shard.file, shard.rows, str(error))

    bad = _collect(faults(), on_bad_shard)
    return DataRecord(tuple(records), bad)


def combine(dataset: Dataset, parts: Sequence[DataRecord]) -> tuple[Dataset, DataRecord]:
    """The data set without the bad shards that any rank found, and the record of what the run begins with: the same on
    every rank.

    Args:
        parts: what :func:`fingerprint_shards` returned, by rank.

    Raises:
        ValueError: a split has no good shard left.
    """
    dataset = dataset.without(shard for part in parts for shard in part.bad)
    records = {(shard.split, shard.file): shard for part in parts for shard in part.shards}
    shards = tuple(records[split, shard.file] for split, shard in dataset.shards)
    return dataset, DataRecord(shards, dataset.left_out, dataset.schema.meaning)


def changed_shards(
    dataset: Dataset, record: DataRecord, on_bad_shard: OnBadShard, rank: int, world_size: int
) -> tuple[BadShard, ...]:
    """This rank's share of the shards that are not what they were when the run began.

    Args:
        record: of the run's beginning.

    Raises:
        ValueError: the first of them, unless bad shards are skipped.
    """
    faults = (
        BadShard(shard.split, shard.file, shard.rows, why)
        for shard in record.shards[rank::world_size]
        if (why := _difference(dataset.directory / shard.file, shard))
    )
    return _collect(faults, on_bad_shard)


def _collect(faults: Iterator[BadShard], on_bad_shard: OnBadShard) -> tuple[BadShard, ...]:
    found = []
    for bad in faults:
        if on_bad_shard == "stop":
            raise ValueError(bad.why)
        found.append(bad)
    return tuple(found)


def _record(path: Path, split: str, shard: Shard, row_groups: Sequence[int]) -> ShardRecord:
    size, digest = _fingerprint(path)
    if shard.sha256 and digest != shard.sha256:
        raise ValueError(f"{path}: sha256 is {digest}, but schema.json says {shard.sha256}")
    return ShardRecord(split, shard.file, shard.rows, size, digest, row_groups)


def _difference(path: Path, expected: ShardRecord) -> str | None:
    if not path.is_file():
        return f"{path}: not found, though the run began with it"
    try:
        size, digest = _fingerprint(path)
    except ValueError as error:
        return str(error)
    if (size, digest) == (expected.bytes, expected.sha256):
        return None
    return (
        f"{path}: changed since the run began: {size} bytes with sha256 {digest},"
        f" expected {expected.bytes} bytes with sha256 {expected.sha256}"
    )


def _fingerprint(path: Path) -> tuple[int, str]:
    """A file's size in bytes and its SHA-256."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return file.tell(), digest
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
