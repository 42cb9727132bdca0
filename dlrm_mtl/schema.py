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
- one ``int8`` column per label, 0 or 1. A task that is defined only under a condition (CVR given click) names
  the conditioning label in ``given``; its own label must be 0 or 1 in every row, and is ignored where the
  condition is 0.

Columns of the files of the splits eval and stream, where the data set keeps them:

- ``cluster:NAME`` for ``cluster``: an ``int64`` key of the row's cluster, for example of the user. Rows with the same
  key are not independent; a row with a null is a cluster of its own.
- ``segment:NAME`` for each of ``segments``: ``int32`` codes, which number the segment's values from 0. No nulls.

Further columns are ignored.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from dlrm_mtl.continuation import Continuation, Period
from dlrm_mtl.files import read_object, write_json
from dlrm_mtl.meaning import DenseFingerprint, Fingerprints, Meaning, TableFingerprint
from dlrm_mtl.quoting import quote, shorten
from dlrm_mtl.records import build
from dlrm_mtl.segments import MAX_NAME, Segment, check_context

FORMAT = 1
"""Version of the format that this code reads and writes."""

SPLITS = ("train", "eval")

STREAM = "stream"
"""The only split of a data set of a period: each row is evaluated, then trained on."""

MAX_CARDINALITY = 2**40
"""Rows of a table; the size of a larger one in bytes would exceed 64 bits."""

MAX_MEAN_LENGTH = 2**20
"""Ids per row of a multi-hot feature, far above what fits into a batch."""


@dataclass(frozen=True)
class CategoricalFeature:
    """A categorical feature and the embedding table that holds its ids."""

    name: str
    """Column name."""
    cardinality: int
    """Ids are in ``[0, cardinality)``: the number of rows of the table."""
    multi_hot: bool = False
    """Whether the column is a list column."""
    mean_length: float = 1.0
    """Mean number of ids per row in the training split: the pooling factor that the sharding planner sees."""
    table: str = ""
    """Name of the embedding table. Features that name the same table share it; empty: a table of its own."""

    @property
    def table_name(self) -> str:
        return self.table or self.name


@dataclass(frozen=True)
class Task:
    """A binary task."""

    name: str
    """Name of the task, in metrics, checkpoints and reports."""
    label: str
    """Column of its 0/1 label."""
    given: str = ""
    """Column of the label that must be 1 for the task to be defined; empty: defined in every row."""
    through: str = ""
    """Column of the label of another task, given the same, on one of the two ways to this one: an action between click
    and purchase. For the relation esm2."""
    base_rate: float = math.nan
    """Share of positives among the training rows where the task is defined. It is strictly between 0 and 1, but for a
    split ``stream``: a day may have one class alone."""
    bayes_ne: float | None = None
    """Normalized entropy of the true probabilities on the eval split, where they are known (generated data)."""


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
class ModelSchema:
    """What a model takes and predicts: the part of a data set's description that a checkpoint keeps. Raises ValueError
    where fields contradict each other."""

    name: str
    """Name of the data set."""
    categorical: tuple[CategoricalFeature, ...]
    dense: tuple[str, ...]
    tasks: tuple[Task, ...]

    def __post_init__(self) -> None:
        check_names(
            categorical=[feature.name for feature in self.categorical],
            dense=self.dense,
            tables=list(self.tables),
            labels=self.label_columns,
            tasks=self.tasks,
        )
        for task in self.tasks:
            if not task.label:
                raise ValueError(f"task {quote(task.name)} has no label")
            if task.bayes_ne is not None and not 0.0 <= task.bayes_ne < math.inf:
                raise ValueError(f"task {quote(task.name)} has bayes_ne {task.bayes_ne}, expected a number from 0 on")
            if not 0.0 <= task.base_rate <= 1.0:
                raise ValueError(f"task {task.name!r} has base rate {task.base_rate}, expected a value in [0, 1]")
        for feature in self.categorical:
            if not 1 <= feature.cardinality <= MAX_CARDINALITY:
                raise ValueError(
                    f"feature {quote(feature.name)} has cardinality {feature.cardinality}, expected 1 to"
                    f" {MAX_CARDINALITY}"
                )
            if not 0.0 <= feature.mean_length <= MAX_MEAN_LENGTH:
                raise ValueError(
                    f"feature {quote(feature.name)} has mean length {feature.mean_length}, expected a value in"
                    f" [0, {MAX_MEAN_LENGTH}]"
                )
        for table, users in self.tables.items():
            if len({feature.cardinality for feature in users}) > 1:
                sizes = ", ".join(f"{feature.name}: {feature.cardinality}" for feature in users)
                raise ValueError(f"features that share table {quote(table)} differ in cardinality ({shorten(sizes)})")

    @property
    def tables(self) -> dict[str, tuple[CategoricalFeature, ...]]:
        """The features of each embedding table, by table name, in order of first use."""
        tables: dict[str, tuple[CategoricalFeature, ...]] = {}
        for feature in self.categorical:
            tables[feature.table_name] = (*tables.get(feature.table_name, ()), feature)
        return tables

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Every label and condition column, each once."""
        names = [name for task in self.tasks for name in (task.label, task.given) if name]
        return tuple(dict.fromkeys(names))

    @property
    def task_names(self) -> tuple[str, ...]:
        return tuple(task.name for task in self.tasks)


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
    def evaluated_split(self) -> str:
        """The split whose rows models are evaluated on."""
        return STREAM if STREAM in self.splits else "eval"

    def rows(self, split: str) -> int:
        """Number of rows of a split. Raises ValueError where there is no such split."""
        return sum(shard.rows for shard in self.shards_of(split))


def keeps_context(split: str) -> bool:
    """Whether the files of a split hold clusters and segments."""
    return split in ("eval", STREAM)


def require_tasks(tasks: Sequence[Task]) -> None:
    """Raises ValueError if there is no task."""
    if not tasks:
        raise ValueError("a data set needs at least one task")


def check_names(
    categorical: Sequence[str],
    dense: Sequence[str],
    tables: Sequence[str],
    labels: Sequence[str],
    tasks: Sequence[Task],
) -> None:
    """Checks the names of features, tables, labels and tasks.

    Raises:
        ValueError: there is no categorical feature; a name is empty, too long or not printable; columns or
            tasks share one; a task is conditioned on its own label.
    """
    if not categorical:
        raise ValueError("a data set needs at least one categorical feature")
    features = [*categorical, *dense]
    task_names = [task.name for task in tasks]
    for kind, names in (("feature", features), ("table", tables), ("label", labels), ("task", task_names)):
        for name, uses in Counter(names).items():
            if not name or not name.isprintable() or len(name) > MAX_NAME:
                raise ValueError(f"{kind} {quote(name)}: expected a name of 1 to {MAX_NAME} printable characters")
            if uses > 1:
                raise ValueError(f"{kind} {name!r} is named twice")
    used_as_input = set(labels) & set(features)
    if used_as_input:
        raise ValueError(f"label {min(used_as_input)!r} is also a feature")
    for task in tasks:
        if task.label == task.given:
            raise ValueError(f"task {task.name!r} is conditioned on its own label")
        if task.through in {task.label, task.given} - {""}:
            raise ValueError(f"task {task.name!r} goes through {task.through!r}, expected the label of a third task")


def write_schema(schema: Schema, directory: Path) -> None:
    """Writes ``schema.json``: it marks a data set as complete.

    Raises:
        ValueError: see :meth:`Schema.check_complete`.
    """
    schema.check_complete()
    write_json(directory / "schema.json", {"format": FORMAT, **asdict(schema)})


def read_schema(directory: Path) -> Schema:
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
