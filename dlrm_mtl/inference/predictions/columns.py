"""The columns of predictions: some of the data set's, then those that a model predicts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dlrm_mtl.data.dataset import Dataset
from dlrm_mtl.data.order import Part
from dlrm_mtl.funnels import output_names
from dlrm_mtl.model_schema import Task
from dlrm_mtl.quoting import quote, shorten
from dlrm_mtl.storage.parquet import UNREADABLE, first_line, is_of_file, open_parquet

LISTED = 4000
"""Characters of the list of columns that a message shows."""

Predicted = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Columns:
    """The columns of predictions."""

    carried: pa.Schema
    """Columns of the data set, with a type that holds the values of every shard."""
    predicted: tuple[str, ...]
    """M + P names, see :func:`prediction_columns`."""

    @classmethod
    def of(cls, dataset: Dataset, split: str, names: Sequence[str], tasks: Sequence[Task]) -> "Columns":
        """
        Args:
            names: columns of the data set to carry over, in this order.

        Raises:
            ValueError: a shard has no such column, the shards have different types of it, it is named twice, or a
                predicted column has its name.
        """
        predicted = tuple(prediction_columns(tasks))
        for name in names:
            if name in predicted:
                raise ValueError(f"columns: {quote(name)} is the name of a predicted column, expected another column")
            if names.count(name) > 1:
                raise ValueError(f"columns: {quote(name)} is named twice")
        return cls(_common_schema(dataset, split, names), predicted)

    @property
    def schema(self) -> pa.Schema:
        fields = [pa.field(name, pa.float32(), nullable=False) for name in self.predicted]
        return pa.schema([*self.carried, *fields])

    def table(self, dataset: Dataset, part: Part, predicted: Predicted) -> pa.Table:
        """The predictions of some rows of a row group.

        Args:
            predicted: (rows, M + P).

        Raises:
            ValueError: the row group cannot be read, or holds a value that the column's type does not.
        """
        names = self.carried.names
        arrays: list[pa.ChunkedArray | pa.Array] = []
        if names:
            table = dataset.read(part.row_group, names).slice(part.start, part.rows).select(names)
            try:
                arrays += table.cast(self.carried).columns
            except pa.ArrowException as error:
                raise ValueError(f"{part.row_group}: {first_line(error)}") from None
        arrays += [pa.array(np.ascontiguousarray(column)) for column in predicted.T]
        return pa.table(arrays, schema=self.schema)


def prediction_columns(tasks: Sequence[Task]) -> dict[str, tuple[Task, ...]]:
    """The tasks of each predicted column: ``p_click``, the probability of a binary task; ``p_click_and_buy`` of a
    product; ``predicted_play``, the number that a regression task predicts."""
    columns: dict[str, tuple[Task, ...]] = {}
    for name, chain in output_names(tasks).items():
        column = f"{'predicted' if tasks[chain[0]].kind == 'regression' else 'p'}_{name}"
        columns[column] = tuple(tasks[task] for task in chain)
    return columns


def _common_schema(dataset: Dataset, split: str, names: Sequence[str]) -> pa.Schema:
    """The fields of some columns, of all shards together; nothing else that the files say of them."""
    common = pa.schema([])
    for shard in dataset.schema.splits[split] if names else ():
        path = dataset.directory / shard.file
        try:
            with open_parquet(path) as file:
                has = file.schema_arrow
        except UNREADABLE as error:
            if not is_of_file(error):
                raise
            raise ValueError(f"{path}: cannot be read ({first_line(error)})") from None
        for name in names:
            if has.names.count(name) != 1:
                listed = shorten(", ".join(has.names), LISTED)
                raise ValueError(f"columns: {path} has no column {quote(name)}; it has {listed}")
        fields = [has.field(name) for name in names]
        plain = pa.schema([pa.field(field.name, field.type, field.nullable) for field in fields])
        try:
            common = pa.unify_schemas([common, plain], promote_options="permissive")
        except pa.ArrowException as error:
            raise ValueError(f"columns: {path} has another type than the shards before ({first_line(error)})") from None
    return common
