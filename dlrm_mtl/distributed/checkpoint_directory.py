"""A directory of checkpoints: each is whole, under its final name, or it does not count.

::

    DIR/step-00000120/checkpoint.json     facts of the run, and size and checksum of every file, itself too
    DIR/step-00000120/tensors.json        see checkpoint_format.py
    DIR/step-00000120/__0_0.distcp ...
    DIR/.step-00000240.partial            one that is being written, or never was finished
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dlrm_mtl.files import read_json, synchronize, write_json

FORMAT = 1
"""Version of the checkpoints that this code writes and reads."""

MANIFEST = "checkpoint.json"

FileRecord = tuple[str, int, str]
"""Name, size in bytes, sha256 of a file."""


def checkpoint_path(directory: Path, step: int) -> Path:
    return directory / f"step-{step:08d}"


def partial_path(directory: Path, step: int) -> Path:
    """Where a checkpoint is written before it gets its name."""
    return directory / f".step-{step:08d}.partial"


def list_checkpoints(directory: Path) -> list[Path]:
    """Finished checkpoints, the newest first."""
    found = [path for path in directory.glob("step-*") if re.fullmatch(r"step-\d{8,}", path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")), reverse=True)


def remove_unfinished(directory: Path) -> list[Path]:
    """Removes what was never finished, and returns it."""
    found = sorted(directory.glob(".step-*.partial"))
    for path in found:
        shutil.rmtree(path)
    return found


def record_files(directory: Path, files: Sequence[str]) -> list[FileRecord]:
    """Size and checksum of some files."""
    return [(name, (directory / name).stat().st_size, _sha256(directory / name)) for name in files]


def complete(directory: Path, step: int, facts: Mapping[str, Any], files: Sequence[FileRecord], keep: int) -> None:
    """Gives a written checkpoint its manifest and its name, and removes all but the newest ``keep``."""
    partial, path = partial_path(directory, step), checkpoint_path(directory, step)
    records = {name: {"bytes": size, "sha256": checksum} for name, size, checksum in files}
    write_manifest(partial, {"format": FORMAT, "step": step, "files": records, **facts})
    for written in (*partial.iterdir(), partial):
        synchronize(written)
    if path.exists():  # of the same step, written before a restart
        shutil.rmtree(path)
    os.replace(partial, path)
    synchronize(directory)
    for old in list_checkpoints(directory)[keep:]:
        shutil.rmtree(old)


def write_manifest(directory: Path, manifest: Mapping[str, Any]) -> None:
    """Writes the manifest of a checkpoint, with a checksum of its own."""
    write_json(directory / MANIFEST, {**manifest, "sha256": _digest(manifest)})


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint.

    Raises:
        ValueError: there is none, it is damaged, or it has another format.
    """
    if not (path / MANIFEST).is_file():
        raise ValueError(f"{path / MANIFEST}: not found; a checkpoint is a directory RUN/checkpoints/step-N with one")
    manifest = read_json(path / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"{path / MANIFEST}: not the manifest of a checkpoint of format {FORMAT}")
    if manifest.pop("sha256", None) != _digest(manifest):
        raise ValueError(f"{path / MANIFEST}: has another checksum than when it was written")
    return manifest


def find_damage(path: Path, manifest: Mapping[str, Any], part: int = 0, parts: int = 1) -> str | None:
    """What is wrong with a share of a checkpoint's files; None if nothing is."""
    for name, record in sorted(manifest["files"].items())[part::parts]:
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        size = file.stat().st_size
        if size != record["bytes"]:
            return f"{name} has {size} bytes, expected {record['bytes']}"
        if _sha256(file) != record["sha256"]:
            return f"{name} has another checksum than when it was written"
    return None


def _digest(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
