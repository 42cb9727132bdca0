"""Layouts: what the columns of a raw log are. ``data_prep/layouts`` has those of public logs; other logs need a TOML
file of the same form (docs/data/parquet.md)."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

from data_prep.columns.labels import LabelColumn, RegressionLabel, WeightColumn
from dlrm_mtl.files import read_toml
from dlrm_mtl.model_schema import Task, check_names, require_tasks
from dlrm_mtl.quoting import quote, shorten
from dlrm_mtl.records import build
from dlrm_mtl.segments import check_context

DAY = "day"
"""Name of the segment that is added where rows have a time."""
USER = "user"
"""Name of the segment that is added where rows have a cluster: whether the cluster has training rows."""

Kind = Literal["hex", "integer", "string"]
"""``hex``: 8 hexadecimal digits, as Criteo's logs have."""

READY = Path(__file__).parents[1] / "layouts"


@dataclass(frozen=True)
class CategoricalColumn:
    """A categorical feature."""

    column: str
    """Column of the log."""
    kind: Kind = "string"
    name: str = ""
    """Name of the feature; by default that of the column."""
    multi_hot: bool = False
    """Whether a value is a list: a list column of a parquet file, or a text of values with a separator."""
    separator: str = ""
    """Separator of the values in a multi-hot text."""
    table: str = ""
    """Embedding table, for features that share one. They share its ids and must be of one kind."""
    max_ids: int = 0
    """Maximum number of the table's ids, reserved ones included; 0: that of the command line."""

    @property
    def feature(self) -> str:
        return self.name or self.column

    @property
    def table_name(self) -> str:
        return self.table or self.feature

    @property
    def source(self) -> str:
        return self.column

    @property
    def use(self) -> str:
        """How the column is read."""
        return "list" if self.multi_hot and not self.separator else self.kind


@dataclass(frozen=True)
class DenseColumn:
    """A dense feature."""

    column: str
    kind: Literal["integer", "number"] = "number"
    """``integer``: a value with a fraction is a bad one."""
    name: str = ""
    """Name of the feature; by default that of the column."""
    transform: Literal["none", "log"] = "none"
    """``log``: log(x + shift), where x below 1 - shift counts as 1 - shift (such values are counted)."""
    shift: float = 1.0
    standardise: bool = False
    """Whether the transformed values are scaled to mean 0 and standard deviation 1 over the training rows."""
    mark_missing: bool = True
    """Whether there is a column ``NAME_missing``, 1 where the value is missing. The missing value itself becomes 0."""

    @property
    def feature(self) -> str:
        return self.name or self.column

    @property
    def source(self) -> str:
        return self.column

    @property
    def use(self) -> str:
        """How the column is read."""
        return self.kind

    @property
    def mark(self) -> str:
        """Name of the column that marks missing values."""
        return f"{self.feature}_missing"


@dataclass(frozen=True)
class Layout:
    """The meaning of the columns of a log. Raises ValueError where fields contradict each other."""

    name: str
    categorical: tuple[CategoricalColumn, ...]
    labels: tuple[LabelColumn, ...]
    tasks: tuple[Task, ...]
    dense: tuple[DenseColumn, ...] = ()
    regression_labels: tuple[RegressionLabel, ...] = ()
    weights: tuple[WeightColumn, ...] = ()
    """Row weights that tasks may name; those that none names are not read."""
    time_column: str = ""
    """Column of each row's time, for a split by time. It may have another use, too."""
    cluster: str = ""
    """Column whose value the rows of a cluster share, such as the user's; kept for evaluation. It may have another use,
    too. Here and in ``segments``, the name of a one-hot feature stands for its column."""
    segments: tuple[str, ...] = ()
    """Columns whose values divide the evaluation rows."""
    licence: str = ""
    columns: tuple[str, ...] = ()
    """Text logs: names of the fields of a line, in their order. Empty: the first line of each file names them."""
    separator: str = ","
    """Text logs: separator of fields, one character."""
    quoted: bool = False
    """Text logs: whether fields may be in double quotes."""
    trim: bool = False
    """Text logs: whether spaces around a field are dropped."""
    missing: tuple[str, ...] = ("",)
    """Text logs: texts that stand for a missing value."""
    comment: str = ""
    """Text logs: lines that begin with this are ignored and counted, as are empty lines. Empty: there are none of
    either."""

    def __post_init__(self) -> None:
        if len(self.separator) != 1:
            raise ValueError(f"separator {self.separator!r}: expected one character")
        for column, uses in Counter(self.columns).items():
            if uses > 1:
                raise ValueError(f"column {column!r} is named twice")
        self._check_marks()
        require_tasks(self.tasks)
        check_names(
            categorical=[column.feature for column in self.categorical],
            dense=self.dense_names,
            tables=list(self.tables),
            labels=self.label_names,
            tasks=self.tasks,
        )
        self._check_labels()
        self._check_weights()
        self._check_context()
        unknown = sorted(self.uses.keys() - set(self.columns))
        if self.columns and unknown:
            columns = shorten(", ".join(self.columns))
            raise ValueError(f"column {quote(unknown[0])} is none of the columns {columns}")
        self._check_features()

    def _check_marks(self) -> None:
        named = {column.feature for column in self.categorical} | {column.feature for column in self.dense}
        named |= {*self.label_names, *(column.weight for column in self.weights)}
        for column in self.dense:
            if column.mark_missing and column.mark in named:
                raise ValueError(
                    f"dense {column.feature!r} marks missing values in {column.mark!r}, which is a feature, label or"
                    " weight; give one of them another name, or mark_missing = false"
                )

    def _check_labels(self) -> None:
        binary, numbers = ({label.name for label in labels} for labels in (self.labels, self.regression_labels))
        for task in self.tasks:
            # Base rates are known when the rows have been read.
            replace(task, base_rate=0.5 if task.kind == "binary" else None).check()
            for name, labels in ((task.label, binary if task.kind == "binary" else numbers), (task.given, binary)):
                if name and name not in labels:
                    raise ValueError(
                        f"{task.kind} task {task.name!r} names label {name!r}, which is none of {sorted(labels)}"
                    )
        inputs = {*(column.column for column in self.categorical), *(column.column for column in self.dense)}
        for label in self.all_labels:
            if label.source in inputs:
                raise ValueError(
                    f"column {label.source!r} is a feature, and cannot be the source of label {label.name!r}"
                )

    def _check_weights(self) -> None:
        names = [column.weight for column in self.weights]
        for name in names:
            if names.count(name) > 1 or name in (*self.label_names, *self._feature_names):
                raise ValueError(f"weight {quote(name)} is also a feature, a label or another weight")
        for task in self.tasks:
            if task.weight and task.weight not in names:
                raise ValueError(f"task {task.name!r} names weight {task.weight!r}, which is none of {sorted(names)}")

    def _check_context(self) -> None:
        names = list(dict.fromkeys([*self.segments, DAY, USER]))
        if len(set(self.segments)) == len(self.segments):
            weights = [column.weight for column in self.weights]
            check_context(self.cluster, names, [*self._feature_names, *self.label_names, *weights])
        for kind, name in (("cluster", self.cluster), *(("segment", name) for name in self.segments)):
            if self.segments.count(name) > 1:
                raise ValueError(f"segment {quote(name)} is named twice")
            if name and self.uses[self.column_of(name)] == "list":
                raise ValueError(f"{kind} {quote(name)}: a column of lists, expected a column of single values")

    def _check_features(self) -> None:
        for column in self.dense:
            if column.transform == "log" and not 0 < column.shift < math.inf:
                raise ValueError(f"dense {column.feature!r} has shift {column.shift}, expected a positive number")
        for table, users in self.tables.items():
            if len({(user.kind, user.max_ids) for user in users}) > 1:
                raise ValueError(f"features that share table {table!r} differ in kind or max_ids")
        for feature in self.categorical:
            if feature.separator and not (feature.multi_hot and feature.kind == "string"):
                raise ValueError(f"categorical {feature.feature!r}: a separator needs multi_hot and kind string")

    @property
    def tables(self) -> dict[str, tuple[CategoricalColumn, ...]]:
        """The features of each embedding table."""
        return tables_of(self.categorical)

    @property
    def dense_names(self) -> list[str]:
        """Dense columns of the data set: the features, then the marks of missing values."""
        return dense_names(self.dense)

    @property
    def _feature_names(self) -> list[str]:
        return [*(column.feature for column in self.categorical), *self.dense_names]

    @property
    def all_labels(self) -> tuple[LabelColumn | RegressionLabel, ...]:
        return (*self.labels, *self.regression_labels)

    @property
    def label_names(self) -> list[str]:
        return [label.name for label in self.all_labels]

    @property
    def label_formulas(self) -> dict[str, str]:
        """What each regression label is, in words."""
        return {label.name: label.formula for label in self.regression_labels}

    @property
    def needed_weights(self) -> list[WeightColumn]:
        """The row weights that tasks name."""
        names = {task.weight for task in self.tasks}
        return [column for column in self.weights if column.weight in names]

    @property
    def uses(self) -> dict[str, str]:
        """How each column that is needed is read: hex, integer, number, weight, string, binary or list. A number that
        is also a weight is read as a weight.

        Raises:
            ValueError: a column is used in two ways.
        """
        uses = uses_of([*self.categorical, *self.dense, *self.all_labels])
        for column in self.needed_weights:
            if uses.setdefault(column.source, column.use) not in ("number", column.use):
                raise ValueError(f"column {column.source!r} is read as {uses[column.source]} and as {column.use}")
            uses[column.source] = column.use
        context = [self.column_of(name) for name in (self.cluster, *self.segments) if name]
        for name in (self.time_column, *context):
            if name:
                uses.setdefault(name, "string")
        return uses

    def column_of(self, name: str) -> str:
        """The column of the log behind a cluster or a segment, which may be named by a one-hot feature."""
        of_features = {feature.feature: feature.column for feature in self.categorical if not feature.multi_hot}
        return name if name in of_features.values() else of_features.get(name, name)

    def with_tasks(self, names: Sequence[str]) -> "Layout":
        """The layout with some of its tasks only.

        Raises:
            ValueError: there is no such task.
        """
        names_of_tasks = [task.name for task in self.tasks]
        for name in names:
            if name not in names_of_tasks:
                raise ValueError(f"task {name!r}: expected one of {', '.join(names_of_tasks)}")
        return replace(self, tasks=tuple(task for task in self.tasks if task.name in names))


Categorical = TypeVar("Categorical", bound=CategoricalColumn)


def tables_of(features: Sequence[Categorical]) -> dict[str, tuple[Categorical, ...]]:
    """The features of each embedding table, in order of first use."""
    tables: dict[str, tuple[Categorical, ...]] = {}
    for feature in features:
        tables[feature.table_name] = (*tables.get(feature.table_name, ()), feature)
    return tables


def dense_names(columns: Sequence[DenseColumn]) -> list[str]:
    """The dense features, then the marks of missing values."""
    return [column.feature for column in columns] + [column.mark for column in columns if column.mark_missing]


def uses_of(columns: Sequence[CategoricalColumn | DenseColumn | LabelColumn | RegressionLabel]) -> dict[str, str]:
    """How each column of a log is read: hex, integer, number, string, binary or list.

    Raises:
        ValueError: a column is used in two ways.
    """
    uses: dict[str, str] = {}
    for column in columns:
        if uses.setdefault(column.source, column.use) != column.use:
            raise ValueError(f"column {column.source!r} is read as {uses[column.source]} and as {column.use}")
    return uses


def read_layout(name: str) -> Layout:
    """A ready layout by its name, or one from a TOML file.

    Raises:
        ValueError: the file is missing or no valid TOML, a key is unknown, missing or of a wrong type, or keys
            contradict each other.
    """
    path = Path(name) if name.endswith(".toml") else READY / f"{name}.toml"
    if not path.is_file():
        ready = ", ".join(sorted(file.stem for file in READY.glob("*.toml")))
        raise ValueError(f"layout {name!r}: not found; expected a .toml file or one of {ready}")
    values = read_toml(path)
    try:
        return build(Layout, values, "")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
