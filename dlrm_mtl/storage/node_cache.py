"""Copies of data sets on a node's own disk, which the processes of the node share."""

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from dlrm_mtl.files import PendingFile, remove_leftovers, sha256
from dlrm_mtl.location import Location, RemotePath, Status, name_below
from dlrm_mtl.schema import Schema, read_schema
from dlrm_mtl.storage.transfer import REQUESTS, fetch
from dlrm_mtl.units import format_size


def cached(source: Location, cache: Path) -> Path:
    """The copy of a data set on this node: schema.json, its shards, and the ids that begin anew.

    One process copies what is missing while others wait; when it is killed, the next one goes on. A file of the copy is
    whole or not there, has the checksum that schema.json lists, and the size and time of the original. Another version
    of the data set is another copy; the older one stays until it is deleted.

    Returns:
        the directory of the copy.

    Raises:
        ValueError: a file is missing or has another checksum than schema.json says, or the disk is too small.
        OSError: the original cannot be read, or the cache cannot be written to.
    """
    schema = read_schema(source)
    text = (source / "schema.json").read_text(encoding="utf-8")
    origin = source if isinstance(source, RemotePath) else source.absolute()
    digest = hashlib.sha256(f"{origin}\n{text}".encode()).hexdigest()[:16]
    copy = cache / f"{origin.name}-{digest}"
    copy.mkdir(parents=True, exist_ok=True)
    with _lock(cache / f"{copy.name}.lock"):
        checksums = _checksums(schema)
        for directory in {(copy / file).parent for file in checksums}:
            directory.mkdir(parents=True, exist_ok=True)
            remove_leftovers(directory)
        statuses = _statuses(source, checksums)
        missing = [file for file, status in statuses.items() if not _is_copy(copy / file, status)]
        if missing:
            _check_space(source, copy, sum(statuses[file].st_size for file in missing))
            with ThreadPoolExecutor(REQUESTS) as threads:
                jobs = [threads.submit(_copy, source, copy, file, statuses[file], checksums[file]) for file in missing]
                try:
                    for job in jobs:
                        job.result()
                finally:
                    threads.shutdown(cancel_futures=True)
        pending = PendingFile(copy / "schema.json")
        pending.temporary.write_text(text, encoding="utf-8")
        pending.commit(durable=False)
    return copy


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Waits until no other process of the node holds the lock, which ends with the process that holds it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _checksums(schema: Schema) -> dict[str, str]:
    """The files of a data set with their checksums, empty where schema.json has none."""
    shards = {shard.file: shard.sha256 for shards in schema.splits.values() for shard in shards}
    reset = schema.continues.reset.values() if schema.continues else ()
    return shards | {file.file: file.sha256 for file in reset}


def _statuses(source: Location, files: Mapping[str, str]) -> dict[str, Status]:
    """Size and time of each file. Raises ValueError where one is missing."""
    if isinstance(source, RemotePath):  # one request instead of one for each file
        below = {name_below(source, file): status for file, status in source.files_below().items()}
    else:
        below = {file: Status.of((source / file).stat()) for file in files if (source / file).is_file()}
    for file in files:
        if file not in below:
            raise ValueError(f"{source / file}: not found, though schema.json lists it")
    return {file: below[file] for file in files}


def _is_copy(file: Path, status: Status) -> bool:
    return file.is_file() and Status.of(file.stat()) == status


def _check_space(source: Location, copy: Path, needed: int) -> None:
    free = shutil.disk_usage(copy).free
    if needed > free:
        raise ValueError(
            f"{copy}: {format_size(needed)} of {source} are to be copied, but {format_size(free)} are free; give"
            " another --cache, or none"
        )
    print(f"{source}: copying {format_size(needed)} to {copy}, where {format_size(free)} are free", file=sys.stderr)


def _copy(source: Location, copy: Path, file: str, status: Status, checksum: str) -> None:
    pending = PendingFile(copy / file)
    try:
        fetch(source / file, pending.temporary)
        size = pending.temporary.stat().st_size
        if size != status.st_size:
            raise ValueError(f"{source / file}: {size} bytes could be read, expected {status.st_size}")
        if checksum and (digest := sha256(pending.temporary)) != checksum:
            raise ValueError(f"{source / file}: sha256 is {digest}, but schema.json says {checksum}")
        os.utime(pending.temporary, ns=(status.st_mtime_ns, status.st_mtime_ns))
        pending.commit(durable=False)
    finally:
        pending.discard()
