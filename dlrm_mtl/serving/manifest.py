"""``manifest.json`` of an export: what the model takes and gives, where it came from, and its files."""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar

from dlrm_mtl.distributed.checkpoint_directory import ListedFile, find_damage
from dlrm_mtl.export_options import Precision
from dlrm_mtl.files import read_object, write_json
from dlrm_mtl.meaning import DenseFingerprint, Fingerprints, Meaning, TableFingerprint
from dlrm_mtl.model_schema import TaskKind
from dlrm_mtl.quoting import quote
from dlrm_mtl.records import MayHoldMore, build

FORMAT = 1
"""Version of the exports that this code writes and reads."""

Listing = TypeVar("Listing")

MANIFEST, MODEL, COMPILED, ENCODING = "manifest.json", "model.pt2", "compiled.pt2", "encoding"


@dataclass(frozen=True)
class ExportedFeature:
    """A categorical feature and its table."""

    name: str
    table: str


@dataclass(frozen=True)
class ExportedTable:
    """An embedding table of the data set."""

    rows: int
    """Ids are in ``[0, rows)``."""
    dim: int
    copies: int
    """Tables of this size in the model: of each task, where tasks have tables or models of their own."""


@dataclass(frozen=True)
class StoredTable:
    """The rows of a table of the model, one after another, in a tensor of model.pt2."""

    tensor: str
    """Its name in the program's ``state_dict``."""
    start: int
    """Byte of the tensor where the rows begin."""
    rows: int
    row_bytes: int
    """float: 4 per value. int8: 4 for scale and offset in float16, then 1 per value."""


@dataclass(frozen=True)
class ExportedTask:
    """A task; ``given`` and ``through`` as in schema.json."""

    name: str
    label: str
    given: str
    through: str


@dataclass(frozen=True)
class Output:
    """A column of the output: the probability that the labels of all its tasks are 1, or the predicted label of a
    regression task. Of one task: given that it is defined."""

    name: str
    tasks: tuple[str, ...]
    kind: TaskKind = "binary"
    """Of the task; binary in an export of an earlier version."""
    unit: str = ""
    """Of a regression task's label."""


@dataclass(frozen=True)
class ModelTensor:
    """An input or output of the model."""

    name: str
    dtype: Literal["float32", "int64"]
    shape: tuple[int | None, ...]
    """None: any number."""


@dataclass(frozen=True)
class Source:
    """The checkpoint that was exported."""

    checkpoint: str
    sha256: str
    """Checksum that its manifest states, which covers all of its files."""
    arm: str
    step: int
    bf16: bool
    """Whether it was trained under bfloat16 autocast. The export computes in float32."""


@dataclass(frozen=True)
class Processor:
    """The processor for which a model was compiled."""

    machine: str
    """Architecture, such as x86_64."""
    features: tuple[str, ...]
    """Instruction sets that it has, by torch.cpu.get_capabilities()."""


@dataclass(frozen=True)
class QuantizedNe:
    """NE of an output, or NMSE of a regression task, with float tables and with int8 tables; None where all labels are
    equal."""

    float_tables: float | None
    int8_tables: float | None


@dataclass(frozen=True)
class Quantization:
    """What int8 tables cost, on the eval split of a data set."""

    data: str
    rows: int
    ne: Mapping[str, QuantizedNe]
    """By output."""


@dataclass(frozen=True)
class Manifest(MayHoldMore):
    """The manifest of an export. Raises ValueError where fields contradict each other."""

    precision: Precision
    features: tuple[ExportedFeature, ...]
    """In the order of the rows of ``lengths``."""
    dense: tuple[str, ...]
    """In the order of the columns of ``dense``."""
    tables: Mapping[str, ExportedTable]
    fingerprints: Fingerprints
    tasks: tuple[ExportedTask, ...]
    relation: str
    inputs: tuple[ModelTensor, ...]
    output: ModelTensor
    outputs: tuple[Output, ...]
    """In the order of the columns of the output."""
    source: Source
    versions: Mapping[str, str]
    files: Mapping[str, ListedFile]
    """By their paths in the export."""
    processor: Processor | None = None
    """None: there is no compiled model."""
    quantization: Quantization | None = None
    """None: the tables are not quantised."""
    stored: Mapping[str, StoredTable] = field(default_factory=dict)
    """By name of the table in the model: that in the data set; ``TABLE%of_TASK`` of a task's own table,
    ``NUMBER/TABLE`` of a task's own model."""

    def __post_init__(self) -> None:
        check_inside(self.files)
        if MODEL not in self.files:
            raise ValueError(f"files: {MODEL} is missing")
        if (self.processor is not None) != (COMPILED in self.files):
            raise ValueError(f"files: expected both {COMPILED} and processor, or neither")
        unknown = sorted({feature.table for feature in self.features} - self.tables.keys())
        if unknown:
            raise ValueError(f"tables: {quote(unknown[0])} is missing")

    @property
    def sha256(self) -> str:
        """Checksum of the weights and the meaning of the inputs. It does not depend on the version of pyarrow, as the
        bytes of vocabularies do."""
        content = [self.files[MODEL].sha256, asdict(self.fingerprints)]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for file in self.files.values())

    @property
    def has_encoding(self) -> bool:
        """Whether the directory ``encoding`` has what turns a raw row into ids and dense values."""
        return f"{ENCODING}/encoding.json" in self.files

    @property
    def meaning(self) -> Meaning:
        """The meaning of the inputs."""
        tables, dense = self.fingerprints.tables, self.fingerprints.dense
        return Meaning(
            {feature.name: feature.table for feature in self.features},
            {name: tables.get(name, TableFingerprint("unknown", table.rows)) for name, table in self.tables.items()},
            {name: dense.get(name, DenseFingerprint("unknown")) for name in self.dense},
        )


def check_inside(files: Collection[str]) -> None:
    """Raises ValueError where a path of a manifest leads out of its directory."""
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
            raise ValueError(f"files: {quote(name)} lies outside of the directory")


def write_manifest(manifest: Manifest, directory: Path) -> None:
    write_json(directory / MANIFEST, {"format": FORMAT, **asdict(manifest)})


def read_manifest(directory: Path) -> Manifest:
    """The manifest of an export, whose files are verified.

    Raises:
        ValueError: the directory is no export, or one of another format; the manifest is damaged; a file is missing or
            has other bytes than when it was written.
    """
    return read_listing(Manifest, directory / MANIFEST, FORMAT, "an export is a directory that dlrm_mtl.export wrote")


def read_listing(kind: type[Listing], path: Path, version: int, hint: str) -> Listing:
    """A manifest with ``format`` and ``files``, whose files are verified.

    Args:
        hint: for where it is missing.

    Raises:
        ValueError: as for :func:`read_manifest`.
    """
    if not path.is_file():
        raise ValueError(f"{path}: not found; {hint}")
    values: dict[str, Any] = read_object(path)
    if type(written := values.pop("format", None)) is not int or written != version:
        raise ValueError(f"{path}: format {quote(written)}, expected {version}")
    try:
        listing = build(kind, values, "")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    damage = find_damage(path.parent, values)
    if damage is not None:
        raise ValueError(f"{path.parent}: {damage}")
    return listing
