"""Directories of exports and deltas, which are whole or not there."""

import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from dlrm_mtl.config import require
from dlrm_mtl.distributed.checkpoint_directory import ListedFile, record_files
from dlrm_mtl.files import is_leftover, publish, synchronize

PARTIAL = ".partial"
"""Ending of the name of a directory that is being written."""


def check_place(out: Path, names: Collection[str]) -> None:
    """Raises ValueError where a new directory, or the one in which it is written, would replace something else.

    Args:
        names: of what is written there.
    """
    require("out", str(out), not out.exists(), "a directory that does not exist yet")
    partial = _partial(out)
    for entry in partial.iterdir() if partial.exists() else ():
        if entry.name.removesuffix(PARTIAL) not in names and not is_leftover(entry):
            raise ValueError(f"{entry}: is no file that is written here; give another directory than {out}")


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A directory that gets its name when the block ends without an error. What a killed process left is replaced."""
    partial = _partial(path)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        for file in partial.rglob("*"):
            synchronize(file)
        publish(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def list_files(directory: Path) -> dict[str, ListedFile]:
    """All files of a directory, by their paths in it."""
    names = [str(file.relative_to(directory)) for file in sorted(directory.rglob("*")) if file.is_file()]
    return {name: ListedFile(size, checksum) for name, size, checksum in record_files(directory, names)}


def _partial(out: Path) -> Path:
    return out.with_name(f"{out.name}{PARTIAL}")
