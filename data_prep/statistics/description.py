"""Statistics of a data set, by split, and how far eval rows drift from training rows.

Every value is read twice: to check it, then to count it. Memory holds one row group and the id counts of the features
of one pass (of the largest feature, at least).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.columns.arrays import Integers
from data_prep.output.label_counts import LabelCounts
from data_prep.statistics.column_statistics import (
    HEAD_IDS,
    IdCounter,
    IdStatistics,
    LabelStatistics,
    ValueMoments,
    ValueStatistics,
    ratio_or_none,
)
from data_prep.statistics.regression_labels import NumberCounter, NumberStatistics
from data_prep.statistics.row_groups import with_progress
from dlrm_mtl.data.checks import check_values
from dlrm_mtl.data.dataset import Dataset, open_dataset
from dlrm_mtl.location import Location
from dlrm_mtl.model_schema import CategoricalFeature, Task
from dlrm_mtl.schema import SPLITS, Schema

Counter = LabelCounts | NumberCounter | ValueMoments

COUNTED_AT_ONCE = 1 << 25
"""Ids, summed over features, that are counted in one pass: 512 MiB of counts for the two splits."""

TAIL_BUCKETS = 10
"""PSI buckets that the other ids share."""
PSI_FLOOR = 1e-4
"""Least share of a PSI bucket: a bucket that is empty in one split does not make PSI infinite."""

THRESHOLDS = {"z": 3.0, "ratio": 0.1, "psi": 0.1, "new_share": 0.05, "smd": 0.1}
"""A task drifts if |z| and |ratio - 1| both exceed their thresholds: the difference is neither noise nor negligible. A
categorical feature drifts if psi or new_share does, a dense one or a regression label if |smd| does."""


@dataclass(frozen=True)
class TaskDescription:
    """A binary task."""

    name: str
    label: str
    given: str
    splits: dict[str, LabelStatistics]
    ratio: float | None
    """Eval base rate / train base rate; null where it is not defined."""
    z: float | None
    """Two-proportion z score: (eval rate - train rate) / sqrt(p (1 - p) (1 / n_train + 1 / n_eval)), where n are the
    defined rows and p is the base rate of both splits together; null where it is not defined."""
    drifts: bool


@dataclass(frozen=True)
class RegressionDescription:
    """A regression task."""

    name: str
    label: str
    given: str
    weight: str
    unit: str
    splits: dict[str, NumberStatistics]
    smd: float | None
    """Standardised mean difference: (eval mean - train mean) / train deviation; null where it is not defined."""
    drifts: bool


@dataclass(frozen=True)
class CategoricalDescription:
    name: str
    table: str
    cardinality: int
    multi_hot: bool
    splits: dict[str, IdStatistics]
    new_share: float | None
    """Share of the eval ids that do not occur in training rows; null without eval ids."""
    psi: float | None
    """Population stability index, as :func:`stability_index` defines it."""
    drifts: bool


@dataclass(frozen=True)
class DenseDescription:
    name: str
    splits: dict[str, ValueStatistics]
    smd: float | None
    """Standardised mean difference: (eval mean - train mean) / train std; null where all training values are equal."""
    drifts: bool
    """Where all training values are equal: whether the eval mean differs."""


@dataclass(frozen=True)
class Description:
    """Statistics of a data set."""

    name: str
    rows: dict[str, int]
    """Rows by split."""
    tasks: tuple[TaskDescription, ...]
    regressions: tuple[RegressionDescription, ...]
    categorical: tuple[CategoricalDescription, ...]
    dense: tuple[DenseDescription, ...]
    thresholds: Mapping[str, float] = field(default_factory=lambda: dict(THRESHOLDS))

    def as_dict(self) -> dict[str, Any]:
        """For JSON: numbers, strings and null, no NaN."""
        return asdict(self)


def describe(directory: Location, counted_at_once: int = COUNTED_AT_ONCE) -> Description:
    """Reads a data set and describes it.

    Args:
        counted_at_once: bound on the ids that are counted in one pass.

    Raises:
        ValueError: there is no data set, or training would refuse it: a file or column is missing, cannot be read or
            has the wrong type; an id, a label or a dense value is out of its range. The message names file and column.
    """
    dataset = open_dataset(directory)
    schema = dataset.schema
    for split, group in with_progress(dataset, "check"):
        check_values(replace(dataset, row_groups={split: (group,)}))
    tasks, regressions, dense = _describe_rows(dataset)
    features = passes(schema.categorical, counted_at_once)
    return Description(
        name=schema.name,
        rows={split: schema.rows(split) for split in SPLITS},
        tasks=tasks,
        regressions=regressions,
        categorical=tuple(description for part in features for description in _describe_ids(dataset, part)),
        dense=dense,
    )


def reserves_ids(schema: Schema) -> bool:
    """Whether ids are reserved for missing values and for values outside the vocabulary, as in data sets prepared from
    raw logs."""
    generator = str(schema.source.get("generator", ""))
    return generator.startswith("data_prep.") and generator not in ("data_prep.synthetic", "data_prep.schema")


def stability_index(train: Integers, evaluated: Integers) -> float | None:
    """Population stability index over the ids that occur in training rows.

    Each of the 10 most frequent training ids is a bucket. The others, in the order of the ids, fill 10 buckets of about
    equal share of training ids; frequency must not order them, or chance alone would make the rare ids of training rows
    more frequent in eval rows. With a bucket's share t of those training ids and e of those eval ids, both at least
    1e-4, PSI is the sum of (e - t) ln(e / t). Without drift it is about (buckets - 1) (1 / n_train + 1 / n_eval),
    with n such ids.

    Args:
        train: occurrences of each id in training rows.
        evaluated: the same in eval rows.

    Returns:
        None where no eval id occurs in training rows.
    """
    known = np.flatnonzero(train)
    train, evaluated = train[known], evaluated[known]
    if not evaluated.any():
        return None
    head = np.argsort(-train, kind="stable")[:HEAD_IDS]
    tail = np.ones(len(train), bool)
    tail[head] = False
    before = np.cumsum(train[tail]) - train[tail]
    bucket = TAIL_BUCKETS * before // max(int(train[tail].sum()), 1)

    def shares(counts: Integers) -> npt.NDArray[np.float64]:
        pooled = np.bincount(bucket, weights=counts[tail], minlength=TAIL_BUCKETS)
        return np.maximum(np.concatenate([counts[head], pooled]) / counts.sum(), PSI_FLOOR)

    expected, actual = shares(train), shares(evaluated)
    return float(np.sum((actual - expected) * np.log(actual / expected)))


def _describe_rows(
    dataset: Dataset,
) -> tuple[tuple[TaskDescription, ...], tuple[RegressionDescription, ...], tuple[DenseDescription, ...]]:
    schema = dataset.schema
    binary = [task for task in schema.tasks if task.kind == "binary"]
    regressions = [task for task in schema.tasks if task.kind == "regression"]
    labels = {split: [LabelCounts(task) for task in binary] for split in SPLITS}
    numbers = {split: [NumberCounter(task) for task in regressions] for split in SPLITS}
    values = {split: [ValueMoments(name) for name in schema.dense] for split in SPLITS}
    for split, group in with_progress(dataset, "labels and dense features"):
        table = dataset.read(group, [*schema.label_columns, *schema.weight_columns, *schema.dense])
        counters: Sequence[Counter] = (*labels[split], *numbers[split], *values[split])
        for counter in counters:
            counter.add(table)
    tasks = [
        _task(task, {split: LabelStatistics.of(labels[split][index]) for split in SPLITS})
        for index, task in enumerate(binary)
    ]
    of_numbers = [
        _regression(task, {split: numbers[split][index].statistics() for split in SPLITS})
        for index, task in enumerate(regressions)
    ]
    dense = [
        _dense(name, {split: values[split][index].statistics() for split in SPLITS})
        for index, name in enumerate(schema.dense)
    ]
    return tuple(tasks), tuple(of_numbers), tuple(dense)


def _describe_ids(dataset: Dataset, features: Sequence[CategoricalFeature]) -> list[CategoricalDescription]:
    counters = {split: [IdCounter(feature) for feature in features] for split in SPLITS}
    names = [feature.name for feature in features]
    for split, group in with_progress(dataset, "ids"):
        table = dataset.read(group, names)
        for counter in counters[split]:
            counter.add(table)
    reserved = reserves_ids(dataset.schema)
    return [
        _categorical(feature, {split: counters[split][index] for split in SPLITS}, reserved)
        for index, feature in enumerate(features)
    ]


def _task(task: Task, splits: dict[str, LabelStatistics]) -> TaskDescription:
    train, evaluated = splits["train"], splits["eval"]
    ratio = z = None
    if train.base_rate is not None and evaluated.base_rate is not None:
        ratio = ratio_or_none(evaluated.base_rate, train.base_rate)
        pooled = (train.positives + evaluated.positives) / (train.rows + evaluated.rows)
        error = (pooled * (1.0 - pooled) * (1.0 / train.rows + 1.0 / evaluated.rows)) ** 0.5
        z = ratio_or_none(evaluated.base_rate - train.base_rate, error)
    matters = ratio is None or abs(ratio - 1.0) > THRESHOLDS["ratio"]
    drifts = z is not None and abs(z) > THRESHOLDS["z"] and matters
    return TaskDescription(task.name, task.label, task.given, splits, ratio, z, drifts)


def _regression(task: Task, splits: dict[str, NumberStatistics]) -> RegressionDescription:
    train, evaluated = splits["train"], splits["eval"]
    smd = None
    if train.mean is not None and evaluated.mean is not None and train.deviation is not None:
        smd = ratio_or_none(evaluated.mean - train.mean, train.deviation)
    drifts = smd is not None and abs(smd) > THRESHOLDS["smd"]
    return RegressionDescription(task.name, task.label, task.given, task.weight, task.unit, splits, smd, drifts)


def _categorical(
    feature: CategoricalFeature, counters: Mapping[str, IdCounter], reserved: bool
) -> CategoricalDescription:
    train, evaluated = counters["train"].counts, counters["eval"].counts
    new_share = ratio_or_none(int(evaluated[train == 0].sum()), int(evaluated.sum()))
    psi = stability_index(train, evaluated)
    return CategoricalDescription(
        name=feature.name,
        table=feature.table_name,
        cardinality=feature.cardinality,
        multi_hot=feature.multi_hot,
        splits={split: counter.statistics(reserved) for split, counter in counters.items()},
        new_share=new_share,
        psi=psi,
        drifts=(psi or 0.0) > THRESHOLDS["psi"] or (new_share or 0.0) > THRESHOLDS["new_share"],
    )


def _dense(name: str, splits: dict[str, ValueStatistics]) -> DenseDescription:
    train, evaluated = splits["train"], splits["eval"]
    difference = evaluated.mean - train.mean
    smd = ratio_or_none(difference, train.std)
    drifts = difference != 0.0 if smd is None else abs(smd) > THRESHOLDS["smd"]
    return DenseDescription(name, splits, smd, drifts)


def passes(features: Sequence[CategoricalFeature], counted_at_once: int) -> list[list[CategoricalFeature]]:
    """The features in order, in groups that are counted in one pass."""
    groups: list[list[CategoricalFeature]] = []
    room = 0
    for feature in features:
        if not groups or feature.cardinality > room:
            groups.append([])
            room = counted_at_once
        groups[-1].append(feature)
        room -= feature.cardinality
    return groups
