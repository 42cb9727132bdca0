"""Copies of files, to and from stores."""

import shutil
from pathlib import Path

import pyarrow as pa

from dlrm_mtl.location import STREAM_BYTES, Location

REQUESTS = 8
"""Number of files, row groups or footers that a process fetches from a store at the same time."""


def open_bytes(path: Location) -> pa.NativeFile:
    """Opens a file for reading at any place. Raises OSError where it cannot be read."""
    return pa.OSFile(str(path)) if isinstance(path, Path) else path.filesystem.open_input_file(path.key)


def read_through(path: Location, file: pa.NativeFile) -> pa.NativeFile:
    """The rest of an open file, in a store by large requests."""
    return file if isinstance(path, Path) else pa.BufferedInputStream(file, STREAM_BYTES)


def fetch(source: Location, path: Path) -> None:
    """Copies a file to a path of a file system. Raises OSError where it cannot be read or written."""
    with source.open("rb") as file, path.open("wb") as copy:
        shutil.copyfileobj(file, copy, STREAM_BYTES)
