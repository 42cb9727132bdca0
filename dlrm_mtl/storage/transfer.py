"""Copies of files, to and from stores."""

import shutil
from pathlib import Path

import pyarrow as pa

from dlrm_mtl.files import sha256
from dlrm_mtl.location import STREAM_BYTES, Location, RemotePath, Status

REQUESTS = 8
"""Number of files, row groups or footers that a process fetches from a store at the same time."""


def open_bytes(path: Location, start: int = 0) -> pa.NativeFile:
    """Opens a file, to be read from a position on; in a store by large requests. Raises OSError where it cannot be
    read."""
    file = pa.OSFile(str(path)) if isinstance(path, Path) else path.filesystem.open_input_file(path.key)
    file.seek(start)
    return file if isinstance(path, Path) else pa.BufferedInputStream(file, STREAM_BYTES)


def fetch(source: Location, path: Path) -> None:
    """Copies a file to a path of a file system. Raises OSError where it cannot be read or written."""
    with source.open("rb") as file, path.open("wb") as copy:
        shutil.copyfileobj(file, copy, STREAM_BYTES)


def is_same(path: Path, to: RemotePath, status: Status | None) -> bool:
    """Whether a store holds the bytes of a file.

    Args:
        status: of the file in the store; None: it is not there.
    """
    return status is not None and status.st_size == path.stat().st_size and sha256(path) == sha256(to)
