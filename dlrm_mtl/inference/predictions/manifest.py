"""``predictions.json``: what predictions are of, and their files."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dlrm_mtl.files import read_object, write_json
from dlrm_mtl.quoting import MAX_LENGTH, quote
from dlrm_mtl.records import MayHoldMore, build

MANIFEST = "predictions.json"

FORMAT = 1
"""Version of the manifest that this code writes and reads."""

COMPARED = ("checkpoint_sha256", "arm", "split", "columns", "rows_per_file")
"""Fields of a :class:`Manifest` that decide what is written."""


@dataclass(frozen=True)
class PartRecord:
    """A file of predictions."""

    file: str
    """Path, relative to the manifest."""
    rows: int
    sha256: str


@dataclass(frozen=True)
class PredictedLabel:
    """A column of a regression task."""

    task: str
    unit: str
    """Of the label and of the column."""


@dataclass(frozen=True)
class Manifest(MayHoldMore):
    """What is predicted."""

    checkpoint: str
    """Path of the checkpoint."""
    checkpoint_sha256: str
    """Checksum of its manifest, which has those of all its files."""
    step: int
    arm: str
    split: str
    rows: int
    """Of the split."""
    columns: tuple[str, ...]
    """Columns carried over."""
    probabilities: Mapping[str, tuple[str, ...]]
    """The tasks of each column of probabilities; several tasks: of their product."""
    given: Mapping[str, str]
    """The label that must be 1 for a predicted column to be defined, of those that have one."""
    rows_per_file: int
    regressions: Mapping[str, PredictedLabel] = field(default_factory=dict)
    """The task of each column of predicted labels."""
    parts: tuple[PartRecord, ...] = ()
    """Files in the order of rows; none while they are being written."""


def write_manifest(directory: Path, manifest: Manifest) -> None:
    write_json(directory / MANIFEST, {"format": FORMAT, **asdict(manifest)})


def read_manifest(directory: Path) -> Manifest:
    """Reads what :func:`write_manifest` wrote.

    Raises:
        ValueError: it is anything else.
    """
    path = directory / MANIFEST
    raw = read_object(path)
    if (version := raw.pop("format", None)) != FORMAT:
        raise ValueError(f"{path}: format {quote(version)}, expected {FORMAT}")
    try:
        return build(Manifest, raw, "")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def check_same(directory: Path, before: Manifest, now: Manifest) -> None:
    """Raises a ValueError that names the first difference between the predictions in a directory and those of now."""
    for name in COMPARED:
        old, new = (quote(getattr(manifest, name), MAX_LENGTH) for manifest in (before, now))
        if old != new:
            if name == "checkpoint_sha256":
                old, new = f"{old} ({before.checkpoint})", f"{new} ({now.checkpoint})"
            raise ValueError(
                f"{directory}: other predictions are here, with {name} {old} where these have {new}; give another --out"
            )
