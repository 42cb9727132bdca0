"""Encodes columns of a log as features of a data set. Counts missing, unseen and raised values."""

from collections import Counter
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data_prep.columns.arrays import Mask, missing_of, numbers, one_chunk
from data_prep.columns.layout import DenseColumn
from data_prep.columns.raw_columns import values_of
from data_prep.encoding.encoding import EncodedCategorical, Encoding
from data_prep.ids.assignment import Assignment, with_missing
from data_prep.ids.extension import NewIds
from data_prep.ids.keys import keys_of
from data_prep.ids.multi_hot import expand, last_of
from data_prep.ids.vocabulary import MISSING_ID, UNSEEN_ID, Floats, Ids

Floats32 = npt.NDArray[np.float32]
Lengths = npt.NDArray[np.int32]


class Encoder:
    """Encodes rows with the columns of an encoding, as :meth:`Encoding.uses` reads them.

    Args:
        assignments: of ids, by embedding table.
        new_ids: the ids that begin anew, by embedding table.
    """

    def __init__(
        self,
        encoding: Encoding,
        assignments: Mapping[str, Assignment],
        new_ids: Mapping[str, NewIds] = MappingProxyType({}),
    ) -> None:
        self._encoding = encoding
        self._assignments = assignments
        self._new_ids = new_ids
        self.unseen: Counter[str] = Counter()
        """Ids outside the vocabulary, by feature, so far."""
        self.missing: Counter[str] = Counter()
        """Missing values, by feature, so far."""
        self.new: Counter[str] = Counter()
        """Ids that begin anew, by feature, so far."""
        self.raised: Counter[str] = Counter()
        """Values too small for the logarithm of their feature, so far."""

    def encode(self, table: pa.Table) -> dict[str, pa.Array]:
        """The columns (B,) of all features."""
        columns = {
            name: pa.array(ids) if lengths is None else _lists(ids, lengths) for name, ids, lengths in self.ids(table)
        }
        return columns | {name: pa.array(values) for name, values in self.dense(table).items()}

    def ids(self, table: pa.Table) -> Iterator[tuple[str, Ids, Lengths | None]]:
        """Name, ids (N,) and ids per row (B,) of each categorical feature; None where each row has one."""
        for feature in self._encoding.categorical:
            yield feature.feature, *self._ids(table, feature)

    def dense(self, table: pa.Table) -> dict[str, Floats32]:
        """The dense features (B,), then the marks of missing values."""
        columns, marks = {}, {}
        for column in self._encoding.dense:
            name = column.feature
            measures, missing, raised = transform(table, column, column.bits)
            self.raised[name] += raised
            scale = self._encoding.fingerprints.dense[name]
            if (scale.mean, scale.deviation) != (0.0, 1.0):
                measures = (measures.astype(np.float64) - scale.mean) / scale.deviation
            values = measures.astype(np.float32, copy=False)
            if missing is not None:
                values[missing] = scale.missing
                self.missing[name] += int(np.count_nonzero(missing))
            columns[name] = values
            if column.mark_missing:
                marks[column.mark] = (
                    np.zeros(len(values), np.float32) if missing is None else missing.astype(np.float32)
                )
        return columns | marks

    def _ids(self, table: pa.Table, feature: EncodedCategorical) -> tuple[Ids, Lengths | None]:
        name = feature.feature
        values, lengths = values_of(table, feature)
        if lengths is not None and feature.newest:
            values, lengths = last_of(values, lengths, feature.newest)
        assignment = self._assignments[feature.table_name]
        ids = with_missing(assignment.ids(keys_of(values)), missing_of(values))
        if self._encoding.rows != "encoded":
            self.missing[name] += int(np.count_nonzero(ids == MISSING_ID)) if values.null_count else 0
            self.unseen[name] += int(np.count_nonzero(ids == UNSEEN_ID))
        if feature.table_name in self._new_ids:
            self.new[name] += self._new_ids[feature.table_name].count(ids)
        if not feature.ids_per_row:
            return ids, lengths
        lengths = np.full(len(ids), feature.ids_per_row, np.int32)
        return expand(ids, name, feature.ids_per_row, assignment.cardinality).reshape(-1), lengths


def transform(table: pa.Table, column: DenseColumn, bits: int = 32) -> tuple[npt.NDArray[Any], Mask | None, int]:
    """A dense feature (B,) before standardisation, undefined where missing; the mask of missing values (B,), None where
    none is; and how many values were raised to 1 - shift for the logarithm.

    Args:
        bits: precision of the values.
    """
    array = one_chunk(table[column.column])
    missing = missing_of(array)
    floats = np.float32 if bits == 32 else np.float64
    values: npt.NDArray[Any] = numbers(array, np.int64 if column.kind == "integer" else np.float64).astype(floats)
    if missing is not None:
        values[missing] = 0.0
    if column.transform == "none":
        return values, missing, 0
    # On 32 bits, log is several times as fast as log1p.
    log, shift, least = (np.log, column.shift, 1.0) if bits == 32 else (np.log1p, column.shift - 1.0, 0.0)
    values += floats(shift)
    raised = int(np.count_nonzero(values < least))
    if raised:
        np.maximum(values, floats(least), out=values)
    return log(values, out=values), missing, raised


def measured(table: pa.Table, column: DenseColumn, bits: int = 32) -> Floats:
    """A dense feature (B,) before standardisation, NaN where missing. Arguments as for :func:`transform`."""
    values, missing, _ = transform(table, column, bits)
    return values.astype(np.float64) if missing is None else np.where(missing, np.nan, values)


def _lists(ids: Ids, lengths: Lengths) -> pa.ListArray:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids))
