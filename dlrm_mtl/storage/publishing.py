"""Data sets that are written to a store from a directory of a file system."""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dlrm_mtl.location import Location, RemotePath, name_below
from dlrm_mtl.storage.store import Store
from dlrm_mtl.storage.transfer import REQUESTS, is_same

SCHEMA = "schema.json"

UNFINISHED = "_unfinished"
"""File of a data set in a store that is not complete yet."""


def check_destination(directory: Location) -> None:
    """Raises ValueError unless the directory is missing, empty, or holds a data set to replace, or a part of one that
    was not finished."""
    if isinstance(directory, Path):
        is_file, files = directory.exists() and not directory.is_dir(), directory.is_dir() and any(directory.iterdir())
    else:
        is_file, files = directory.is_file(), bool(directory.files_below())
    if is_file:
        raise ValueError(f"{directory}: is a file, expected a directory")
    if files and not ((directory / SCHEMA).is_file() or (directory / UNFINISHED).is_file()):
        raise ValueError(f"{directory}: exists and is not a data set (no {SCHEMA}); give an empty directory")


def publish_to_store(directory: Path, to: RemotePath) -> None:
    """Copies a finished data set to a store, schema.json last: it is complete there or has no schema.json. A file that
    is there already with the same bytes is not copied again, so that an interrupted copy goes on.

    Raises:
        OSError: the store cannot be reached or refuses.
    """
    store = Store(to)
    there = {name_below(to, file): status for file, status in to.files_below().items()}
    files = {path.relative_to(directory).as_posix(): path for path in directory.rglob("*") if path.is_file()}
    schema = files.pop(SCHEMA)
    if UNFINISHED not in there:
        with tempfile.NamedTemporaryFile() as empty:
            store.put(Path(empty.name), UNFINISHED)
    if SCHEMA in there:
        store.remove(SCHEMA)

    def copy(name: str) -> None:
        if not is_same(files[name], to / name, there.get(name)):
            store.put(files[name], name)

    with ThreadPoolExecutor(REQUESTS) as threads:
        jobs = [threads.submit(copy, name) for name in sorted(files)]
        try:
            for job in jobs:
                job.result()
        finally:
            threads.shutdown(cancel_futures=True)
    for name in there.keys() - files.keys() - {UNFINISHED, SCHEMA}:
        store.remove(name)
    store.put(schema, SCHEMA)
    store.remove(UNFINISHED)
