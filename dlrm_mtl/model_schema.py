"""What a model takes and predicts: features with their embedding tables, and tasks."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dlrm_mtl.quoting import quote, shorten
from dlrm_mtl.segments import MAX_NAME

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
