"""``delta.json``: what a delta applies to, and what it changes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from dlrm_mtl.distributed.checkpoint_directory import ListedFile
from dlrm_mtl.file_names import file_names
from dlrm_mtl.files import write_json
from dlrm_mtl.records import MayHoldMore
from dlrm_mtl.serving.manifest import Manifest, Source, check_inside, read_listing

FORMAT = 1
"""Version of the deltas that this code writes and reads."""

DELTA, RECORDS, ROWS = "delta.json", "model.zip", "rows"


@dataclass(frozen=True)
class Base:
    """The export that a delta applies to."""

    sha256: str
    """:attr:`Manifest.sha256`."""
    source: Source
    bytes: int
    """Of all of its files."""


@dataclass(frozen=True)
class Changes:
    """Rows of a table, or values of a vocabulary."""

    replaced: int
    appended: int
    rows: int
    """All, afterwards."""


@dataclass(frozen=True)
class Delta(MayHoldMore):
    """The manifest of a delta. Raises ValueError where a file lies outside of its directory."""

    base: Base
    tables: Mapping[str, Changes]
    """By table of the model, as in :attr:`Manifest.stored`."""
    vocabularies: Mapping[str, Changes]
    """By table of the data set."""
    files: Mapping[str, ListedFile]
    """By their paths in the delta."""
    export: Manifest
    """Of the export that results."""

    def __post_init__(self) -> None:
        check_inside(self.files)

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for file in self.files.values())


def row_files(export: Manifest) -> dict[str, str]:
    """The files of a delta with the changed rows of each table."""
    return {table: f"{ROWS}/{name}.parquet" for table, name in file_names(export.stored).items()}


def write_delta_manifest(delta: Delta, directory: Path) -> None:
    write_json(directory / DELTA, {"format": FORMAT, **asdict(delta)})


def read_delta(directory: Path) -> Delta:
    """The manifest of a delta, whose files are verified.

    Raises:
        ValueError: as for :func:`read_manifest` of an export.
    """
    return read_listing(Delta, directory / DELTA, FORMAT, "a delta is a directory that dlrm_mtl.stream published")
