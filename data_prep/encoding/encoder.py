"""Encodes rows of a log as rows of a data set: ids, dense values, labels. Counts missing, unseen and raised values."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data_prep.columns.arrays import missing_of, numbers, one_chunk
from data_prep.columns.layout import DenseColumn, LabelColumn, Layout
from data_prep.columns.raw_columns import label_values, values_of
from data_prep.ids.assignment import Assignment, with_missing
from data_prep.ids.keys import keys_of
from data_prep.ids.multi_hot import expand
from data_prep.ids.scaling import Scaler
from data_prep.ids.vocabulary import MISSING_ID, UNSEEN_ID
from dlrm_mtl.schema import CategoricalFeature

Floats32 = npt.NDArray[np.float32]


class Encoder:
    """Encodes the rows of a layout.

    Args:
        assignments: of ids, by embedding table.
        scalers: of the dense features that are standardised.
        lengths: ids per row of one-hot features that are expanded to multi-hot ones.
    """

    def __init__(
        self,
        layout: Layout,
        assignments: Mapping[str, Assignment],
        scalers: Mapping[str, Scaler],
        lengths: Mapping[str, int],
    ) -> None:
        self._layout = layout
        self._assignments = assignments
        self._scalers = scalers
        self._lengths = lengths
        self._labels = needed_labels(layout)
        self.unseen: Counter[str] = Counter()
        """Ids outside the vocabulary, by feature, so far."""
        self.missing: Counter[str] = Counter()
        """Missing values, by feature, so far."""
        self.raised: Counter[str] = Counter()
        """Values too small for the logarithm of their feature, so far."""

    @property
    def features(self) -> list[CategoricalFeature]:
        """The categorical features of the encoded rows."""
        return [
            CategoricalFeature(
                feature.feature,
                self._assignments[feature.table_name].cardinality,
                multi_hot=feature.multi_hot or feature.feature in self._lengths,
                table=feature.table_name if feature.table_name != feature.feature else "",
            )
            for feature in self._layout.categorical
        ]

    def encode(self, table: pa.Table) -> pa.Table:
        """All columns of the data set (B,) for rows of a log."""
        columns: dict[str, pa.Array] = {}
        for feature in self._layout.categorical:
            name = feature.feature
            values, lengths = values_of(table, feature)
            assignment = self._assignments[feature.table_name]
            ids = with_missing(assignment.ids(keys_of(values)), missing_of(values))
            self.missing[name] += int(np.count_nonzero(ids == MISSING_ID)) if values.null_count else 0
            self.unseen[name] += int(np.count_nonzero(ids == UNSEEN_ID))
            if name in self._lengths:
                length = self._lengths[name]
                lengths = np.full(len(ids), length, np.int32)
                ids = expand(ids, name, length, assignment.cardinality).reshape(-1)
            columns[name] = pa.array(ids) if lengths is None else _lists(ids, lengths)
        columns |= self._encode_dense(table)
        for label in self._labels:
            columns[label.name] = pa.array(label_values(table, label))
        return pa.table(columns)

    def _encode_dense(self, table: pa.Table) -> dict[str, pa.Array]:
        columns, marks = {}, {}
        for column in self._layout.dense:
            name = column.feature
            values, missing, raised = transform(table, column)
            self.raised[name] += raised
            if name in self._scalers:
                values = self._scalers[name].apply(values.astype(np.float64))
            if missing is not None:
                values[missing] = 0.0
                self.missing[name] += int(np.count_nonzero(missing))
            columns[name] = pa.array(values)
            if column.mark_missing:
                mark = np.zeros(len(values), np.float32) if missing is None else missing.astype(np.float32)
                marks[column.mark] = pa.array(mark)
        return columns | marks


def transform(table: pa.Table, column: DenseColumn) -> tuple[Floats32, npt.NDArray[np.bool_] | None, int]:
    """A dense feature (B,) before standardisation, undefined where missing; the mask of missing values (B,), None where
    none is; and how many values were raised to 1 - shift for the logarithm."""
    array = one_chunk(table[column.column])
    missing = missing_of(array)
    values = numbers(array, np.int64 if column.kind == "integer" else np.float64).astype(np.float32)
    if missing is not None:
        values[missing] = 0.0
    if column.transform == "none":
        return values, missing, 0
    values += np.float32(column.shift)
    raised = int(np.count_nonzero(values < 1.0))
    if raised:
        np.maximum(values, np.float32(1.0), out=values)
    return np.log(values, out=values), missing, raised


def needed_labels(layout: Layout) -> list[LabelColumn]:
    """The labels that tasks name, each once."""
    names = {name for task in layout.tasks for name in (task.label, task.given)}
    return [label for label in layout.labels if label.name in names]


def _lists(ids: npt.NDArray[np.int32], lengths: npt.NDArray[np.int32]) -> pa.ListArray:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids))
