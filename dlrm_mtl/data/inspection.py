"""Inspects every shard before a run begins or resumes: its values, its bytes, and whether it has changed. Ranks share
the work; the caller gathers their results, so that all use the same data set."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from dlrm_mtl.data.checks import bad_values, check_shard
from dlrm_mtl.data.dataset import Dataset
from dlrm_mtl.data.footers import read_footer
from dlrm_mtl.data.shards import BadShard, DataRecord, ShardRecord
from dlrm_mtl.files import sha256
from dlrm_mtl.location import Location
from dlrm_mtl.run_config import Check, OnBadShard
from dlrm_mtl.schema import Shard
from dlrm_mtl.storage.parquet import first_line, is_of_file


def inspect_values(dataset: Dataset, on_bad_shard: OnBadShard, rank: int, world_size: int) -> tuple[BadShard, ...]:
    """Checks every value of this rank's share of the row groups.

    Returns:
        The shards with a fault. Two ranks may find the same one.

    Raises:
        ValueError: the first fault, unless bad shards are skipped.
    """
    return _collect(bad_values(dataset, rank, world_size), on_bad_shard)


def record_shards(dataset: Dataset, check: Check, on_bad_shard: OnBadShard, rank: int, world_size: int) -> DataRecord:
    """Records this rank's share of the shards. Under a full check it reads their bytes, and compares the checksums with
    those of schema.json, where it has any.

    Returns:
        This rank's part of the record that :func:`combine` makes.

    Raises:
        ValueError: the first fault, unless bad shards are skipped.
    """
    records = []
    row_groups: dict[tuple[str, Location], list[int]] = defaultdict(list)
    for split, groups in dataset.row_groups.items():
        for group in groups:
            row_groups[split, group.file].append(group.rows)

    def faults() -> Iterator[BadShard]:
        for split, shard in dataset.shards[rank::world_size]:
            path = dataset.directory / shard.file
            try:
                records.append(_record(path, split, shard, row_groups[split, path], check))
            except ValueError as error:
                yield BadShard(split, shard.file, shard.rows, str(error))

    bad = _collect(faults(), on_bad_shard)
    return DataRecord(tuple(records), bad)


def combine(dataset: Dataset, parts: Sequence[DataRecord]) -> tuple[Dataset, DataRecord]:
    """The data set without the bad shards of any rank, and the record of the shards that the run begins with: the same
    on every rank.

    Args:
        parts: what :func:`record_shards` returned, by rank.

    Raises:
        ValueError: a split has no good shard left.
    """
    dataset = dataset.without(shard for part in parts for shard in part.bad)
    records = {(shard.split, shard.file): shard for part in parts for shard in part.shards}
    shards = tuple(records[split, shard.file] for split, shard in dataset.shards)
    return dataset, DataRecord(shards, dataset.left_out, dataset.schema.meaning)


def recheck_shards(
    dataset: Dataset, record: DataRecord, check: Check, on_bad_shard: OnBadShard, rank: int, world_size: int
) -> DataRecord:
    """Checks that this rank's share of the shards has not changed since the run began. A shard with the recorded size
    and time of change is not read again, unless a full check is requested and there was none.

    Args:
        record: from the beginning of the run.

    Returns:
        The shards as they are now, and those that have changed as bad shards.

    Raises:
        ValueError: a shard has changed, unless bad shards are skipped.
    """
    records = []

    def faults() -> Iterator[BadShard]:
        for shard in record.shards[rank::world_size]:
            try:
                records.append(_recheck(dataset, shard, check))
            except ValueError as error:
                yield BadShard(shard.split, shard.file, shard.rows, str(error))

    bad = _collect(faults(), on_bad_shard)
    return DataRecord(tuple(records), bad)


def _collect(faults: Iterator[BadShard], on_bad_shard: OnBadShard) -> tuple[BadShard, ...]:
    found = []
    for bad in faults:
        if on_bad_shard == "stop":
            raise ValueError(bad.why)
        found.append(bad)
    return tuple(found)


def _record(path: Location, split: str, shard: Shard, row_groups: Sequence[int], check: Check) -> ShardRecord:
    size, mtime_ns = _state(path)
    digest = ""
    if check == "full":
        digest = _checksum(path)
        _compare_with_schema(path, shard, digest)
    return ShardRecord(split, shard.file, shard.rows, size, digest, tuple(row_groups), mtime_ns)


def _recheck(dataset: Dataset, shard: ShardRecord, check: Check) -> ShardRecord:
    if check == "none":
        return shard
    path = dataset.directory / shard.file
    if not path.is_file():
        raise ValueError(f"{path}: not found, though the run began with it")
    size, mtime_ns = _state(path)
    checked = check == "footers" or shard.sha256
    if checked and (size, mtime_ns) == (shard.bytes, shard.mtime_ns):
        return shard
    digest = _checksum(path) if check == "full" else shard.sha256
    if size != shard.bytes or digest != (shard.sha256 or digest):
        raise ValueError(
            f"{path}: changed since the run began: {size} bytes with sha256 {digest or 'not known'},"
            f" expected {shard.bytes} bytes with sha256 {shard.sha256 or 'not known'}"
        )
    if check == "footers" and read_footer(path, shard.rows, dataset.schema, shard.split) != shard.row_groups:
        raise ValueError(f"{path}: changed since the run began: it has other row groups")
    if not checked:
        [listed] = [listed for split, listed in dataset.shards if (split, listed.file) == (shard.split, shard.file)]
        _compare_with_schema(path, listed, digest)
        check_shard(dataset, shard.split, path)
    return replace(shard, sha256=digest, mtime_ns=mtime_ns)


def _compare_with_schema(path: Location, shard: Shard, digest: str) -> None:
    if shard.sha256 and digest != shard.sha256:
        raise ValueError(f"{path}: sha256 is {digest}, but schema.json says {shard.sha256}")


def _state(path: Location) -> tuple[int, int]:
    """A file's size in bytes and the time of its last change."""
    try:
        found = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from None
    return found.st_size, found.st_mtime_ns


def _checksum(path: Location) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Location, error: OSError) -> Exception:
    return ValueError(f"{path}: cannot be read ({first_line(error)})") if is_of_file(error) else error
