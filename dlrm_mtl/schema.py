"""The description of a data set: features, tasks, splits; read from and written to ``schema.json``.

A data set is a directory::

    DIR/schema.json
    DIR/train/part-00000.parquet ...
    DIR/eval/part-00000.parquet ...

or, for a model that is trained period by period (a day, an hour)::

    DIR/schema.json
    DIR/stream/part-00000.parquet ...
    DIR/reset/TABLE.parquet ...     ids that begin anew, see :class:`dlrm_mtl.continuation.Continuation`

Columns of every parquet file, by the names given in the schema:

- one column per categorical feature: ``int32`` or ``int64`` ids in ``[0, cardinality)``; a multi-hot feature is
  a list column of such ids, empty lists allowed. No nulls.
- one ``float32`` column per dense feature. No nulls, no NaN.
- one ``int8`` column per label, 0 or 1; for a regression task ``float32``, no nulls, no NaN. A task that is defined
  only under a condition (CVR given click) names the conditioning label in ``given``; its own label must be valid in
  every row, and is ignored where the condition is 0.
- one ``float32`` column per weight, from 0 on. No nulls, no NaN.

Columns of the files of the splits eval and stream, where the data set keeps them:

- ``cluster:NAME`` for ``cluster``: an ``int64`` key of the row's cluster, for example of the user. Rows with the same
  key are not independent; a row with a null is a cluster of its own.
- ``segment:NAME`` for each of ``segments``: ``int32`` codes, which number the segment's values from 0. No nulls.

Further columns are ignored.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from dlrm_mtl.continuation import Continuation, Period
from dlrm_mtl.files import read_object, write_json
from dlrm_mtl.location import Location
from dlrm_mtl.meaning import DenseFingerprint, Fingerprints, Meaning, TableFingerprint
from dlrm_mtl.model_schema import ModelSchema, require_tasks
from dlrm_mtl.quoting import quote
from dlrm_mtl.records import build
from dlrm_mtl.segments import Segment, check_context

FORMAT = 1
"""Version of the format that this code reads and writes."""

SPLITS = ("train", "eval")

STREAM = "stream"
"""The only split of a data set of a period: each row is evaluated, then trained on."""


@dataclass(frozen=True)
class Shard:
    """A parquet file of a split. Raises ValueError for a path outside the data set's directory, a negative number of
    rows, or an invalid checksum."""

    file: str
    """Path, relative to the data set's directory."""
    rows: int
    sha256: str = ""
    """Checksum of the file's bytes; empty: unknown."""

    def __post_init__(self) -> None:
        path = PurePosixPath(self.file)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"shard {quote(self.file)} lies outside the data set's directory")
        if not path.parts or "\0" in self.file:
            raise ValueError(f"shard {quote(self.file)}: expected the path of a file")
        if self.rows < 0:
            raise ValueError(f"shard {quote(self.file)} has {self.rows} rows, expected 0 or more")
        if self.sha256 and not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError(
                f"shard {quote(self.file)} has sha256 {quote(self.sha256)}, expected 64 hexadecimal digits or nothing"
            )


@dataclass(frozen=True)
class Schema(ModelSchema):
    """The description of a data set. Raises ValueError where fields contradict each other."""

    splits: Mapping[str, tuple[Shard, ...]]
    source: Mapping[str, Any] = field(default_factory=dict)
    """Where the data came from: command, options, counts of dropped and unseen values. Free form."""
    fingerprints: Fingerprints = field(default_factory=Fingerprints)
    """The meaning of ids and dense values, as far as it is known."""
    cluster: str = ""
    """Raw column whose value the rows of a cluster share, such as the user's; empty: rows are independent."""
    segments: tuple[Segment, ...] = ()
    """Segments of the splits eval and stream."""
    period: Period | None = None
    """Of the rows' times, in a data set of the split stream; None: they have none."""
    continues: Continuation | None = None
    """What it continues; None: it begins a chain, or is no data set of the split stream."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for task in self.tasks:
            if task.base_rate in (0.0, 1.0) and STREAM not in self.splits:
                raise ValueError(
                    f"task {task.name!r} has base rate {task.base_rate} in the training split, expected a value"
                    " strictly between 0 and 1: with one class only there is nothing to learn"
                )
        self._check_stream()
        features = [feature.name for feature in self.categorical]
        check_context(self.cluster, self.segment_names, [*features, *self.dense, *self.label_columns])
        self._check_fingerprints()
        listed: dict[PurePosixPath, str] = {}
        for split, shard in self._shards():
            path = PurePosixPath(shard.file)
            if path in listed:
                raise ValueError(
                    f"shard {quote(shard.file)} stands in split {quote(split)} and in split {quote(listed[path])},"
                    " expected it once"
                )
            listed[path] = split

    def check_complete(self) -> None:
        """Raises ValueError unless a model can be trained and evaluated on the data set: it has a task, and the splits
        train and eval, or stream alone, have shards."""
        require_tasks(self.tasks)
        for split in (STREAM,) if STREAM in self.splits else SPLITS:
            if not self.splits.get(split):
                raise ValueError(f"split {split!r} has no shard")

    def of_split(self, split: str) -> "Schema":
        """One split by itself. That of training has no clusters and segments.

        Raises:
            ValueError: there is no such split.
        """
        context = {} if keeps_context(split) else {"cluster": "", "segments": ()}
        return replace(self, splits={split: self.shards_of(split)}, **context)  # type: ignore[arg-type]

    def shards_of(self, split: str) -> tuple[Shard, ...]:
        """The shards of a split. Raises ValueError where there is no such split."""
        if split not in self.splits:
            names = ", ".join(self.splits)
            remedy = (
                "; dlrm_mtl.stream trains on it, and --split stream evaluates on it" if STREAM in self.splits else ""
            )
            raise ValueError(f"data set {quote(self.name)} has no split {split!r}, but {names}{remedy}")
        return self.splits[split]

    def features_of(self, split: str) -> "Schema":
        """The features of one split, without labels, clusters and segments: what predictions need."""
        return replace(self.of_split(split), tasks=(), cluster="", segments=())

    def _shards(self) -> Iterator[tuple[str, Shard]]:
        return ((split, shard) for split, shards in self.splits.items() for shard in shards)

    def _check_stream(self) -> None:
        if STREAM not in self.splits:
            if self.splits and (self.period or self.continues):
                raise ValueError(f"period, continues: expected in a data set of the split {STREAM!r} alone")
            return
        if others := [split for split in self.splits if split != STREAM]:
            raise ValueError(f"split {quote(others[0])} stands beside split {STREAM!r}, expected that alone")
        for table, before in (self.continues.tables if self.continues else {}).items():
            if table not in self.tables:
                raise ValueError(f"continues: no feature has table {quote(table)}")
            rows = self.tables[table][0].cardinality
            if rows < before.size:
                raise ValueError(
                    f"continues: table {quote(table)} had {before.size} ids, expected at most the {rows} now"
                )

    def _check_fingerprints(self) -> None:
        for table, fingerprint in self.fingerprints.tables.items():
            if table not in self.tables:
                raise ValueError(f"fingerprints: no feature has table {quote(table)}")
            rows = self.tables[table][0].cardinality
            if fingerprint.size != rows:
                raise ValueError(
                    f"fingerprints: table {quote(table)} has {fingerprint.size} ids, but its features have cardinality"
                    f" {rows}"
                )
        for name in self.fingerprints.dense:
            if name not in self.dense:
                raise ValueError(f"fingerprints: no dense feature {quote(name)}")

    @property
    def of_model(self) -> ModelSchema:
        """What a model that is trained on the data set takes and predicts."""
        return ModelSchema(self.name, self.categorical, self.dense, self.tasks)

    @property
    def meaning(self) -> Meaning:
        """The meaning of the inputs of a model that is trained on the data set."""
        known = self.fingerprints
        return Meaning(
            features={feature.name: feature.table_name for feature in self.categorical},
            tables={
                table: known.tables.get(table, TableFingerprint("unknown", users[0].cardinality))
                for table, users in self.tables.items()
            },
            dense={name: known.dense.get(name, DenseFingerprint("unknown")) for name in self.dense},
        )

    @property
    def segment_names(self) -> tuple[str, ...]:
        return tuple(segment.name for segment in self.segments)

    @property
    def split_names(self) -> tuple[str, ...]:
        """The splits train and eval, or the only one."""
        return tuple(split for split in (*SPLITS, STREAM) if split in self.splits)

    @property
    def trained_split(self) -> str:
        """The split whose rows models are trained on."""
        return STREAM if STREAM in self.splits else "train"

    @property
    def evaluated_split(self) -> str:
        """The split whose rows models are evaluated on."""
        return STREAM if STREAM in self.splits else "eval"

    def rows(self, split: str) -> int:
        """Number of rows of a split. Raises ValueError where there is no such split."""
        return sum(shard.rows for shard in self.shards_of(split))


def keeps_context(split: str) -> bool:
    """Whether the files of a split hold clusters and segments."""
    return split in ("eval", STREAM)


def write_schema(schema: Schema, directory: Path) -> None:
    """Writes ``schema.json``: it marks a data set as complete.

    Raises:
        ValueError: see :meth:`Schema.check_complete`.
    """
    schema.check_complete()
    write_json(directory / "schema.json", {"format": FORMAT, **asdict(schema)})


def read_schema(directory: Location) -> Schema:
    """Reads ``schema.json`` of a data set.

    Raises:
        ValueError: the file is missing or no valid JSON, a field is unknown, missing, of a wrong type or out of range,
            or fields contradict each other.
    """
    path = directory / "schema.json"
    if not path.is_file():
        raise ValueError(f"{path}: not found; a data set is a directory with a schema.json, as data_prep writes it")
    raw = read_object(path)
    try:
        version = raw.pop("format", None)
        if type(version) is not int or version != FORMAT:
            raise ValueError(f"format {quote(version)}, expected {FORMAT}")
        schema = build(Schema, raw, "")
        schema.check_complete()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return schema
