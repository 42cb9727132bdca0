"""Logs of one JSON object per line, to which every start of a run adds."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dlrm_mtl.files import parse_json, synchronize, write_whole


class JsonLines:
    """Adds lines to a file.

    Args:
        path: of the file; its directory is made if it is not there.
        keep: the first bytes of the file, which stay; None: all. Of them, lines that are cut off or damaged, as a crash
            may leave them, are removed.
    """

    def __init__(self, path: Path, keep: int | None = None) -> None:
        _make_directory(path.parent)
        path.touch()
        whole = _remove_damage(path, keep)
        self.bytes_missing = 0 if keep is None else keep - whole
        """Bytes of ``keep`` that the file did not have in whole lines."""
        self._file = path.open("ab")
        synchronize(path.parent)

    @property
    def bytes(self) -> int:
        """Length of the file."""
        return self._file.tell()

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds a line, which other processes see at once. NaN and infinity are refused: JSON has none."""
        self._file.write(json.dumps(record, allow_nan=False).encode() + b"\n")
        self._file.flush()

    def sync(self) -> None:
        """Waits until all lines are on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def _remove_damage(path: Path, keep: int | None) -> int:
    """Leaves the whole lines among a file's first bytes; their length."""
    content = path.read_bytes()
    lines = content[:keep].splitlines(keepends=True)
    whole = b"".join(line for line in lines if _is_record(line))
    if content.startswith(whole):
        os.truncate(path, len(whole))
    else:
        with write_whole(path) as temporary:
            temporary.write_bytes(whole)
    return len(whole)


def _is_record(line: bytes) -> bool:
    if not line.endswith(b"\n"):
        return False
    try:
        return isinstance(parse_json(line.decode(), "line"), dict)
    except ValueError:
        return False


def _make_directory(directory: Path) -> None:
    """Makes a directory, and those above it, so that they outlast a power failure."""
    if directory.is_dir():
        return
    _make_directory(directory.parent)
    directory.mkdir(exist_ok=True)
    synchronize(directory.parent)
