"""A directory of checkpoints. One that has its final name is complete.

::

    DIR/step-00000120/checkpoint.json     facts of the run, and size and checksum of every file, itself too
    DIR/step-00000120/tensors.json        see checkpoint_format.py
    DIR/step-00000120/__0_0.distcp ...
    DIR/.step-00000240.partial            one that is being written, or was interrupted
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from dlrm_mtl.distributed.tensor_description import DESCRIPTION
from dlrm_mtl.files import read_json, sha256, synchronize, write_json
from dlrm_mtl.quoting import quote
from dlrm_mtl.records import MayHoldMore, build

FORMAT = 1
"""Version of the checkpoints that this code writes and reads."""

MANIFEST = "checkpoint.json"

FileRecord = tuple[str, int, str]
"""Name, size in bytes, sha256 of a file."""


@dataclass(frozen=True)
class ListedFile:
    """A file of a checkpoint, as the manifest lists it."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest(MayHoldMore):
    """The part of a manifest that is about the checkpoint itself. Raises ValueError for impossible values."""

    step: int
    files: Mapping[str, ListedFile]
    """By their names in the checkpoint's directory."""

    def __post_init__(self) -> None:
        if self.step < 0:
            raise ValueError(f"step is {self.step}, expected 0 or more")
        for name in self.files:
            if PurePath(name).name != name or "\0" in name:
                raise ValueError(f"files: {quote(name)} lies outside of the checkpoint")
        if DESCRIPTION not in self.files:
            raise ValueError(f"files: {DESCRIPTION} is missing")


def checkpoint_path(directory: Path, step: int) -> Path:
    return directory / f"step-{step:08d}"


def partial_path(directory: Path, step: int) -> Path:
    """Where a checkpoint is written before it gets its final name."""
    return directory / f".step-{step:08d}.partial"


def list_checkpoints(directory: Path) -> list[Path]:
    """Finished checkpoints, the newest first."""
    found = [path for path in directory.glob("step-*") if re.fullmatch(r"step-\d{8,}", path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")), reverse=True)


def remove_unfinished(directory: Path) -> list[Path]:
    """Removes unfinished checkpoints; their paths."""
    found = sorted(directory.glob(".step-*.partial"))
    for path in found:
        remove(path)
    return found


def remove(path: Path) -> None:
    """Removes a directory, file or link, if it exists; not what a link points to."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def record_files(directory: Path, files: Sequence[str]) -> list[FileRecord]:
    """Size and checksum of some files."""
    return [(name, (directory / name).stat().st_size, sha256(directory / name)) for name in files]


def complete(directory: Path, step: int, facts: Mapping[str, Any], files: Sequence[FileRecord], keep: int) -> None:
    """Adds the manifest to a written checkpoint, gives it its final name, and removes all but the newest ``keep``."""
    partial, path = partial_path(directory, step), checkpoint_path(directory, step)
    records = {name: {"bytes": size, "sha256": checksum} for name, size, checksum in files}
    write_manifest(partial, {"format": FORMAT, "step": step, "files": records, **facts})
    for written in (*partial.iterdir(), partial):
        synchronize(written)
    remove(path)  # of the same step, written before a restart
    os.replace(partial, path)
    synchronize(directory)
    for old in list_checkpoints(directory)[keep:]:
        remove(old)


def write_manifest(directory: Path, manifest: Mapping[str, Any]) -> None:
    """Writes the manifest of a checkpoint, with its own checksum."""
    write_json(directory / MANIFEST, {**manifest, "sha256": _digest(manifest)})


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint: ``format``, ``step`` and ``files``, see :class:`Manifest`, and the run's facts,
    which the caller checks.

    Raises:
        ValueError: it is missing or damaged, has another format, or lists a file outside of the checkpoint.
    """
    file = path / MANIFEST
    if not is_regular(file):
        raise ValueError(f"{file}: not found; a checkpoint is a directory RUN/checkpoints/step-N with one")
    manifest = read_json(file)
    if not isinstance(manifest, dict) or type(manifest.get("format")) is not int or manifest["format"] != FORMAT:
        raise ValueError(f"{file}: not the manifest of a checkpoint of format {FORMAT}")
    if manifest.pop("sha256", None) != _digest(manifest):
        raise ValueError(f"{file}: has another checksum than when it was written")
    try:
        build(Manifest, manifest, "")
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    return manifest


def find_damage(path: Path, manifest: Mapping[str, Any], part: int = 0, parts: int = 1) -> str | None:
    """The first damage in one of ``parts`` shares of a checkpoint's files; None if there is none."""
    for name, record in sorted(manifest["files"].items())[part::parts]:
        file = path / name
        if not is_regular(file):
            return f"{name} is missing"
        size = file.stat().st_size
        if size != record["bytes"]:
            return f"{name} has {size} bytes, expected {record['bytes']}"
        if sha256(file) != record["sha256"]:
            return f"{name} has another checksum than when it was written"
    return None


def is_regular(file: Path) -> bool:
    """Whether it is a file and not a link."""
    return file.is_file() and not file.is_symlink()


def _digest(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
