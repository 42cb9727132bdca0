"""Checks every value before training, so that bad data gives one line instead of a corrupt run. The scan takes a few
percent of one epoch and is shared by the ranks."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dlrm_mtl.data.ahead import map_ahead
from dlrm_mtl.data.dataset import Dataset, RowGroup
from dlrm_mtl.data.footers import is_list
from dlrm_mtl.data.shards import BadShard
from dlrm_mtl.location import Location
from dlrm_mtl.quoting import quote
from dlrm_mtl.schema import keeps_context
from dlrm_mtl.segments import segment_column


def check_values(dataset: Dataset, rank: int = 0, world_size: int = 1) -> None:
    """Checks this rank's share of the row groups.

    Raises:
        ValueError: an id outside ``[0, cardinality)``, a binary label other than 0 and 1, a segment code out of range,
            a dense value, a regression task's label or a weight that is not finite as float32, a negative weight, a
            null, or an unreadable row group. The message names file, row group, column, row and value.
    """
    for bad in bad_values(dataset, rank, world_size):
        raise ValueError(bad.why)


def bad_values(dataset: Dataset, rank: int = 0, world_size: int = 1) -> Iterator[BadShard]:
    """Yields the shards in this rank's share of the row groups that have a fault named in :func:`check_values`, each
    with its first fault."""
    found: set[Location] = set()
    groups = [(split, group) for split, of_split in dataset.row_groups.items() for group in of_split]

    def fault(split_and_group: tuple[str, RowGroup]) -> str | None:
        split, group = split_and_group
        try:
            if group.file not in found:
                _check_row_group(dataset, split, group)
        except ValueError as error:
            return str(error)
        return None

    own = groups[rank::world_size]
    for (split, group), why in zip(own, map_ahead(fault, own, dataset.reads_at_once), strict=True):
        if why is not None and group.file not in found:
            found.add(group.file)
            shard = next(s for s in dataset.schema.splits[split] if dataset.directory / s.file == group.file)
            yield BadShard(split, shard.file, shard.rows, why)


def check_shard(dataset: Dataset, split: str, file: Location) -> None:
    """Checks every value of one shard.

    Raises:
        ValueError: see :func:`check_values`.
    """
    for group in dataset.row_groups[split]:
        if group.file == file:
            _check_row_group(dataset, split, group)


def check_labels_differ(dataset: Dataset) -> None:
    """Checks that the labels of each task differ in the eval split, where its metrics are reported: a binary task has
    both classes. A period need not have them.

    Raises:
        ValueError: all rows where a task is defined with a positive weight have the same label, or there are none.
    """
    schema = dataset.schema
    values: dict[str, set[float]] = {task.name: set() for task in schema.tasks if "eval" in dataset.row_groups}
    for group in dataset.row_groups.get("eval", ()):
        unsettled = [task for task in schema.tasks if len(values[task.name]) < 2]
        if not unsettled:
            return
        table = dataset.read(group, [*schema.label_columns, *schema.weight_columns])
        for task in unsettled:
            defined = np.ones(len(table), dtype=bool)
            for column in filter(None, (task.given, task.weight)):
                defined &= table[column].to_numpy() > 0
            values[task.name].update(np.unique(table[task.label].to_numpy()[defined])[:2].tolist())
    for task in schema.tasks if values else ():
        if len(values[task.name]) < 2:
            if task.kind == "binary":
                fault = f"no row of class {min({0, 1} - values[task.name])} in the eval split, expected both classes"
            else:
                fault = "fewer than two different labels in the eval split, expected at least two"
            raise ValueError(f"{dataset.directory}: task {task.name!r} has {fault}")


def _check_row_group(dataset: Dataset, split: str, group: RowGroup) -> None:
    segments = {segment_column(segment.name): segment for segment in dataset.schema.segments if keeps_context(split)}
    table = dataset.read(group, [*dataset.columns, *segments])
    for feature in dataset.schema.categorical:
        _check_range(group, table[feature.name], feature.name, 0, feature.cardinality - 1, "an id")
    numbers = {*dataset.schema.dense, *dataset.schema.regression_labels, *dataset.schema.weight_columns}
    for column in dataset.schema.label_columns:
        if column not in numbers:
            _check_range(group, table[column], column, 0, 1, "a label")
    for column in dataset.columns:
        if column in numbers:
            _check_finite(group, table[column], column)
    for column in dataset.schema.weight_columns:
        _check_range(group, table[column], column, 0, math.inf, "a weight")
    for column, segment in segments.items():
        _check_range(group, table[column], column, 0, len(segment.values) - 1, "a segment's code")


def _check_range(group: RowGroup, column: pa.ChunkedArray, name: str, low: float, high: float, kind: str) -> None:
    values = _values(group, column, name)
    if len(values) and not low <= values.min() <= values.max() <= high:
        position = int(np.flatnonzero((values < low) | (values > high))[0])
        place = _place(group, column, name, position)
        raise ValueError(f"{place} is {values[position]}, expected {kind} in [{low}, {high}]")


def _check_finite(group: RowGroup, column: pa.ChunkedArray, name: str) -> None:
    values = _values(group, column, name)
    with np.errstate(over="ignore"):
        finite = np.isfinite(values.astype(np.float32, copy=False))
    if not finite.all():
        position = int(np.flatnonzero(~finite)[0])
        place = _place(group, column, name, position)
        raise ValueError(f"{place} is {values[position]}, expected a finite number that float32 holds")


def _values(group: RowGroup, column: pa.ChunkedArray, name: str) -> npt.NDArray[Any]:
    """The values of a column, of a multi-hot feature those of all bags. Raises ValueError for a null."""
    if column.null_count:
        raise _null(group, name, pc.index(column.is_null(), True).as_py())
    values = _flat(column)
    if values.null_count:
        raise _null(group, name, _row(column, pc.index(values.is_null(), True).as_py()))
    array: npt.NDArray[Any] = values.to_numpy()
    return array


def _null(group: RowGroup, name: str, row: int) -> ValueError:
    return ValueError(f"{_name(group, name)}, row {row} is null, expected no missing values")


def _flat(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.list_flatten(column) if is_list(column.type) else column


def _place(group: RowGroup, column: pa.ChunkedArray, name: str, position: int) -> str:
    return f"{_name(group, name)}, row {_row(column, position)}"


def _name(group: RowGroup, name: str) -> str:
    return f"{group}, column {quote(name)}"


def _row(column: pa.ChunkedArray, position: int) -> int:
    """The row of a column that holds a value, by the value's position among all of them."""
    return int(pc.list_parent_indices(column)[position].as_py()) if is_list(column.type) else position
