"""Copies of files, to and from stores."""

import shutil
from pathlib import Path

from dlrm_mtl.location import STREAM_BYTES, Location

REQUESTS = 8
"""Number of files, row groups or footers that a process fetches from a store at the same time."""


def fetch(source: Location, path: Path) -> None:
    """Copies a file to a path of a file system. Raises OSError where it cannot be read or written."""
    with source.open("rb") as file, path.open("wb") as copy:
        shutil.copyfileobj(file, copy, STREAM_BYTES)
