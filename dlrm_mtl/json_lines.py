"""Logs with one JSON object per line, appended to by every start of a run."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dlrm_mtl.files import parse_json, synchronize, write_whole


class JsonLines:
    """Appends lines to a file.

    Args:
        path: of the file; its directory is created if missing.
        keep: number of leading bytes to keep; None keeps all. Lines among them that a crash cut off or damaged are
            removed.
    """

    def __init__(self, path: Path, keep: int | None = None) -> None:
        _make_directory(path.parent)
        path.touch()
        whole = _remove_damage(path, keep)
        self.bytes_missing = 0 if keep is None else keep - whole
        """Bytes of ``keep`` that the file lacked in complete lines."""
        self._file = path.open("ab")
        synchronize(path.parent)

    @property
    def bytes(self) -> int:
        """Length of the file in bytes."""
        return self._file.tell()

    def append(self, record: Mapping[str, Any]) -> None:
        """Appends a line, visible to other processes at once. NaN and infinity are refused, since JSON has none."""
        self._file.write(json.dumps(record, allow_nan=False).encode() + b"\n")
        self._file.flush()

    def sync(self) -> None:
        """Waits until all lines are on disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def _remove_damage(path: Path, keep: int | None) -> int:
    """Keeps only the complete lines among a file's leading bytes; returns their length."""
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
    """Creates a directory and its parents, synchronised to disk."""
    if directory.is_dir():
        return
    _make_directory(directory.parent)
    directory.mkdir(exist_ok=True)
    synchronize(directory.parent)
