"""Generated rows as columns of a data set."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from data_prep.columns.arrays import Integers
from data_prep.columns.layout import USER
from data_prep.generated.ground_truth import WATCH, Distribution, Rows
from data_prep.generated.users import UserNumbers
from data_prep.output.raw_context import cluster_keys
from data_prep.output.segment_values import KNOWN, NEW, are_among
from dlrm_mtl.model_schema import Task
from dlrm_mtl.segments import Segment, cluster_column, segment_column

CHUNK_ROWS = 1 << 14
"""Rows generated at a time. Another value gives other rows."""

SEGMENT = Segment(USER, (KNOWN, NEW))
"""Whether a row's user has training rows."""


def chunks(total: int) -> Iterator[tuple[int, int]]:
    """(index, rows to keep) of each chunk: the last one is generated whole and cut, so that its rows do not depend
    on where the data set ends."""
    for index in range(-(-total // CHUNK_ROWS)):
        yield index, min(CHUNK_ROWS, total - index * CHUNK_ROWS)


def tasks_of(distribution: Distribution) -> list[Task]:
    return [
        Task(
            name,
            name,
            given="click" if name == "conversion" else "",
            kind="regression" if name == WATCH else "binary",
        )
        for name in distribution.task_names
    ]


def to_table(rows: Rows, distribution: Distribution, values: Sequence[Integers] | None = None) -> pa.Table:
    """The rows as columns under the names of the schema.

    Args:
        values: (C,) for each categorical feature, the values that its ids stand for; by default the ids.
    """
    columns: dict[str, pa.Array] = {}
    for number, (name, of_rows) in enumerate(
        zip(distribution.feature_names, [*rows.one_hot, *rows.multi_hot], strict=True)
    ):
        offsets, ids = of_rows if isinstance(of_rows, tuple) else (None, of_rows)
        array = pa.array(ids if values is None else values[number][ids])
        columns[name] = array if offsets is None else pa.ListArray.from_arrays(pa.array(offsets), array)
    for i in range(distribution.dense):
        columns[f"dense_{i}"] = pa.array(rows.dense[:, i])
    for i, name in enumerate(distribution.task_names):
        columns[name] = pa.array(rows.watch if name == WATCH else rows.labels[:, i])
    return pa.table(columns)


def keys_of_users(users: UserNumbers) -> pa.Int64Array:
    """Keys (B,) of the clusters that users are."""
    return cluster_keys(pa.array(users).cast(pa.string()))


def with_context(table: pa.Table, keys: pa.Int64Array, seen: Integers) -> pa.Table:
    """The rows with the keys (B,) of their users, and whether these are among known ones (U,), ascending."""
    codes = (~are_among(keys.to_numpy(), seen)).astype(np.int32)
    return table.append_column(cluster_column(USER), keys).append_column(segment_column(USER), pa.array(codes))
