"""What a model takes and predicts: features with their embedding tables, and tasks."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dlrm_mtl.quoting import quote, shorten
from dlrm_mtl.segments import MAX_NAME

MAX_CARDINALITY = 2**40
"""Rows of a table; the size of a larger one in bytes would exceed 64 bits."""


LEAST_NUMBER, LARGEST_NUMBER = 2.0**-126, 2.0**127
"""Labels are float32, so their deviations and means lie within these bounds."""

LEAST_RATE = 1e-6
"""Base rate, and distance from 1, at which a head's bias begins at least: its log-odds are finite."""

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


TaskKind = Literal["binary", "regression"]


@dataclass(frozen=True)
class Task:
    """A binary task or a regression task."""

    name: str
    """Name of the task, in metrics, checkpoints and reports."""
    label: str
    """Column of its label: 0 or 1, or the number that a regression task predicts."""
    given: str = ""
    """Column of the label that must be 1 for the task to be defined; empty: defined in every row."""
    through: str = ""
    """Column of the label of another task, given the same, on one of the two ways to this one: an action between click
    and purchase. For the relation esm2."""
    base_rate: float | None = None
    """Of a binary task: share of positives among the training rows where the task is defined. It is strictly between 0
    and 1, but for a split ``stream``: a day may have one class alone."""
    bayes_ne: float | None = None
    """Normalized entropy of the true probabilities on the eval split, where they are known (generated data)."""
    kind: TaskKind = "binary"
    """binary: cross entropy. regression: the loss of (prediction - label) / deviation."""
    weight: str = ""
    """Column of the rows' weights in the task's loss and metrics; empty: 1 for every row."""
    mean: float = 0.0
    """Of a regression task: mean of the label over the training rows where the task is defined, by weight."""
    deviation: float = 1.0
    """Of a regression task: standard deviation of the label over the same rows, the unit of its loss."""
    huber: float | None = None
    """Of a regression task: Huber loss, quadratic up to so many deviations and linear beyond; None: squared loss."""
    unit: str = ""
    """Of a regression task: unit of the label, such as ``ln(1 + seconds)``."""

    def check_same_labels(self, before: "Task", place: str, place_before: str) -> None:
        """Raises ValueError where the labels mean something else than before: are of another kind or unit."""
        for option in ("kind", "unit"):
            old, new = getattr(before, option), getattr(self, option)
            if old != new:
                raise ValueError(
                    f"{place}: task {quote(self.name)} has {option} {quote(new)}, expected {quote(old)}, as in"
                    f" {place_before}; give a task of another meaning another name"
                )

    @property
    def labels_differ(self) -> bool:
        """Whether the training rows have labels of both classes; True for a regression task."""
        return self.kind == "regression" or (self.base_rate is not None and 0.0 < self.base_rate < 1.0)

    @property
    def first_output(self) -> float:
        """What its head's output starts at: the log-odds of the base rate; of a regression task 0, the mean label."""
        if self.base_rate is None:
            return 0.0
        rate = min(max(self.base_rate, LEAST_RATE), 1 - LEAST_RATE)
        return math.log(rate / (1 - rate))

    def check(self) -> None:
        """Raises ValueError for a number out of its range, or one that belongs to tasks of the other kind."""
        if not self.label:
            raise ValueError(f"task {quote(self.name)} has no label")
        if self.bayes_ne is not None and not 0.0 <= self.bayes_ne < math.inf:
            raise ValueError(f"task {quote(self.name)} has bayes_ne {self.bayes_ne}, expected a number from 0 on")
        if self.kind == "regression":
            self._check_regression()
        elif self.base_rate is None or not 0.0 <= self.base_rate <= 1.0:
            raise ValueError(f"task {self.name!r} has base rate {self.base_rate}, expected a value in [0, 1]")
        elif (self.mean, self.deviation, self.huber, self.unit) != (0.0, 1.0, None, ""):
            raise ValueError(
                f"task {self.name!r} is binary, expected no mean, deviation, huber and unit: a regression task has them"
            )

    def _check_regression(self) -> None:
        positive = {"deviation": self.deviation, **({} if self.huber is None else {"huber": self.huber})}
        for name, value in positive.items():
            if not LEAST_NUMBER <= value <= LARGEST_NUMBER:
                raise ValueError(
                    f"task {self.name!r} has {name} {value}, expected a positive number, as float32 has it"
                )
        if not -LARGEST_NUMBER <= self.mean <= LARGEST_NUMBER:
            raise ValueError(f"task {self.name!r} has mean {self.mean}, expected a number, as float32 has it")
        if self.through:
            raise ValueError(f"task {self.name!r} is a regression and goes through {self.through!r}, expected nothing")
        if self.bayes_ne is not None or self.base_rate is not None:
            raise ValueError(f"task {self.name!r} is a regression, expected neither base_rate nor bayes_ne")


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
            task.check()
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
    def regression_labels(self) -> tuple[str, ...]:
        """The label columns of regression tasks, each once."""
        return tuple(dict.fromkeys(task.label for task in self.tasks if task.kind == "regression"))

    @property
    def weight_columns(self) -> tuple[str, ...]:
        """Every column of row weights, each once."""
        return tuple(dict.fromkeys(task.weight for task in self.tasks if task.weight))

    @property
    def task_kinds(self) -> tuple[TaskKind, ...]:
        return tuple(task.kind for task in self.tasks)

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
    numbers = {task.label for task in tasks if task.kind == "regression"}
    for task in tasks:
        if task.weight in {*features, *labels}:
            raise ValueError(f"task {task.name!r} has weight {task.weight!r}, which is also a feature or a label")
        classes = {task.given, task.through, task.label if task.kind == "binary" else ""}
        if wrong := sorted(classes & numbers):
            raise ValueError(f"task {task.name!r} takes {wrong[0]!r}, a regression task's label, as one of 0 and 1")
        if task.label == task.given:
            raise ValueError(f"task {task.name!r} is conditioned on its own label")
        if task.through in {task.label, task.given} - {""}:
            raise ValueError(f"task {task.name!r} goes through {task.through!r}, expected the label of a third task")
