"""Statistics of a data set of a period (split stream): its new ids, and whether the scales of dense features, which are
those of the first data set of its chain, still fit."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from data_prep.ids.vocabulary import UNSEEN_ID
from data_prep.output.label_counts import LabelCounts
from data_prep.statistics.column_statistics import (
    IdCounter,
    IdStatistics,
    LabelStatistics,
    ValueMoments,
    ValueStatistics,
    ratio_or_none,
)
from data_prep.statistics.description import COUNTED_AT_ONCE, passes
from data_prep.statistics.regression_labels import NumberCounter, NumberStatistics
from data_prep.statistics.row_groups import with_progress
from dlrm_mtl.continuation import Period
from dlrm_mtl.data.checks import check_values
from dlrm_mtl.data.dataset import Dataset, open_dataset
from dlrm_mtl.data.new_ids import Ids, read_new_ids
from dlrm_mtl.location import Location
from dlrm_mtl.model_schema import CategoricalFeature
from dlrm_mtl.schema import STREAM, Schema

MEAN, DEVIATION = 0.1, 0.25
"""A scaled feature or regression label drifts where its mean is farther from 0, or its deviation farther from 1."""


@dataclass(frozen=True)
class TaskOfPeriod:
    name: str
    label: str
    given: str
    labels: LabelStatistics


@dataclass(frozen=True)
class RegressionOfPeriod:
    name: str
    label: str
    given: str
    numbers: NumberStatistics
    mean: float | None
    """In units of the kept scale: 0 in the first data set; null where no row has weight."""
    deviation: float | None
    """Likewise; 1 in the first data set."""
    drifts: bool


@dataclass(frozen=True)
class TableOfPeriod:
    name: str
    ids: int
    """Rows of the table."""
    capacity: int | None
    """Maximum number of its ids; null: none, or unknown."""
    appended: int
    """Ids that the data set before has not."""
    reset: int
    """Ids that were given to another value."""
    waiting: int | None
    """Values that wait for an id; null: unknown."""


@dataclass(frozen=True)
class CategoricalOfPeriod:
    name: str
    table: str
    multi_hot: bool
    ids: IdStatistics
    unseen_before: float | None
    """Share of the ids that the data set before has not, which a model reads as unseen when it is evaluated on the
    period; null where there is none before."""


@dataclass(frozen=True)
class DenseOfPeriod:
    name: str
    values: ValueStatistics
    missing_share: float | None
    """Share of missing values; null where the data set does not mark them."""
    mean: float | None
    """Of the values that are not missing, in units of the kept scale: 0 in the first data set. Null where the feature
    is not scaled, or all are missing."""
    deviation: float | None
    """Likewise; 1 in the first data set."""
    drifts: bool


@dataclass(frozen=True)
class PeriodDescription:
    """Statistics of a data set of a period."""

    name: str
    period: Period | None
    continues: str | None
    """Name of the data set before."""
    rows: int
    tasks: tuple[TaskOfPeriod, ...]
    regressions: tuple[RegressionOfPeriod, ...]
    tables: tuple[TableOfPeriod, ...]
    categorical: tuple[CategoricalOfPeriod, ...]
    dense: tuple[DenseOfPeriod, ...]


def describe_period(directory: Location) -> PeriodDescription:
    """Reads a data set of the split stream and describes it. Memory and errors as for
    :func:`~data_prep.statistics.description.describe`."""
    dataset = open_dataset(directory)
    schema, new_ids = dataset.schema, read_new_ids(directory, dataset.schema)
    for split, group in with_progress(dataset, "check"):
        check_values(replace(dataset, row_groups={split: (group,)}))
    labels = [LabelCounts(task) for task in schema.tasks if task.kind == "binary"]
    numbers = [NumberCounter(task) for task in schema.tasks if task.kind == "regression"]
    values = [_KnownValues(schema, name) for name in schema.dense]
    for _, group in with_progress(dataset, "labels and dense features"):
        table = dataset.read(group, [*schema.label_columns, *schema.weight_columns, *schema.dense])
        counters: Sequence[LabelCounts | NumberCounter | _KnownValues] = (*labels, *numbers, *values)
        for counter in counters:
            counter.add(table)
    return PeriodDescription(
        schema.name,
        schema.period,
        schema.continues.data_set if schema.continues is not None else None,
        schema.rows(STREAM),
        tuple(
            TaskOfPeriod(counts.task.name, counts.task.label, counts.task.given, LabelStatistics.of(counts))
            for counts in labels
        ),
        tuple(_regression(counter) for counter in numbers),
        tuple(_table(schema, name, new_ids.get(name)) for name in schema.tables),
        tuple(
            described
            for features in passes(schema.categorical, COUNTED_AT_ONCE)
            for described in _describe_ids(dataset, features, new_ids)
        ),
        tuple(counter.describe() for counter in values),
    )


class _KnownValues:
    """Moments of a dense feature, and of its values that are not missing."""

    def __init__(self, schema: Schema, name: str) -> None:
        self._name = name
        mark = f"{name}_missing"
        self._mark = mark if mark in schema.dense else None
        fingerprint = schema.meaning.dense[name]
        self._is_scaled = fingerprint.transform in ("none", "log") and (
            (fingerprint.mean, fingerprint.deviation) != (0.0, 1.0)
        )
        self._all, self._known = ValueMoments(name), ValueMoments(name)
        self._rows = self._missing = 0

    def add(self, table: pa.Table) -> None:
        self._all.add(table)
        self._rows += len(table)
        if self._mark is not None:
            is_missing = np.asarray(table[self._mark]) == 1.0
            self._missing += int(np.count_nonzero(is_missing))
            table = table.filter(pa.array(~is_missing))
        self._known.add(table)

    def describe(self) -> DenseOfPeriod:
        mean = deviation = None
        if self._is_scaled and self._missing < self._rows:
            known = self._known.statistics()
            mean, deviation = known.mean, known.std
        drifts = _differs(mean, deviation)
        missing = None if self._mark is None else ratio_or_none(self._missing, self._rows)
        return DenseOfPeriod(self._name, self._all.statistics(), missing, mean, deviation, drifts)


def _differs(mean: float | None, deviation: float | None) -> bool:
    """Whether values drift from the kept scale."""
    return mean is not None and deviation is not None and (abs(mean) > MEAN or abs(deviation - 1) > DEVIATION)


def _regression(counter: NumberCounter) -> RegressionOfPeriod:
    task, numbers = counter.task, counter.statistics()
    mean = None if numbers.mean is None else (numbers.mean - task.mean) / task.deviation
    deviation = None if numbers.deviation is None else numbers.deviation / task.deviation
    drifts = _differs(mean, deviation)
    return RegressionOfPeriod(task.name, task.label, task.given, numbers, mean, deviation, drifts)


def _table(schema: Schema, name: str, new_ids: Ids | None) -> TableOfPeriod:
    ids = schema.tables[name][0].cardinality
    before = ids if schema.continues is None else schema.continues.tables[name].size
    appended = ids - before
    reset = 0 if new_ids is None else len(new_ids) - appended
    chain = schema.source.get("chain") or {}
    capacity, waiting = (chain.get(kind, {}).get(name) for kind in ("capacities", "waiting"))
    return TableOfPeriod(name, ids, capacity or None, appended, reset, waiting)


def _describe_ids(
    dataset: Dataset, features: Sequence[CategoricalFeature], new_ids: dict[str, Ids]
) -> list[CategoricalOfPeriod]:
    counters = [IdCounter(feature) for feature in features]
    for _, group in with_progress(dataset, "ids"):
        table = dataset.read(group, [feature.name for feature in features])
        for counter in counters:
            counter.add(table)
    continues, tables = dataset.schema.continues is not None, dataset.schema.meaning.tables
    described = []
    for feature, counter in zip(features, counters, strict=True):
        reserved = tables[feature.table_name].method in ("vocabulary", "hash", "modulo")
        unseen = int(counter.counts[UNSEEN_ID]) if reserved else 0
        new = new_ids.get(feature.table_name)
        number = unseen + (0 if new is None else int(counter.counts[new].sum()))
        share = ratio_or_none(number, int(counter.counts.sum())) if continues else None
        described.append(
            CategoricalOfPeriod(
                feature.name, feature.table_name, feature.multi_hot, counter.statistics(reserved), share
            )
        )
    return described
