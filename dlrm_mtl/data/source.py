"""Rows of a data set for readers; padding where a shard is lost."""

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pyarrow as pa

from dlrm_mtl.data.ahead import map_ahead
from dlrm_mtl.data.assembly import Array
from dlrm_mtl.data.batch import FILL, LOST
from dlrm_mtl.data.context import Context
from dlrm_mtl.data.dataset import Dataset, RowGroup
from dlrm_mtl.data.new_ids import Ids, with_unseen
from dlrm_mtl.data.order import Part
from dlrm_mtl.run_config import OnBadShard


class RowSource:
    """Reads rows. The readers and threads of a process share it, so that a lost file is reported once.

    The rows of a lost shard become padding in the same places: position LOST; dense values, labels, weights and one-hot
    ids 0; empty multi-hot bags. Other rows keep their places, and every rank keeps its number of batches.

    Args:
        on_bad_shard: whether a row group that cannot be read raises, or makes its file a lost shard, with a line on
            stderr.
        unseen: by table, ids that are read as :data:`UNSEEN_ID`, ascending.
    """

    def __init__(
        self,
        dataset: Dataset,
        on_bad_shard: OnBadShard = "stop",
        unseen: Mapping[str, Ids] = MappingProxyType({}),
    ) -> None:
        self.dataset = dataset
        self._on_bad_shard = on_bad_shard
        self._unseen = dict(unseen)
        self._lost = {dataset.directory / shard.file: "before" for shard in dataset.lost}

    def of_tasks(self, names: Collection[str]) -> "RowSource":
        """The same rows with the labels of some tasks."""
        return RowSource(self.dataset.of_tasks(names), self._on_bad_shard, self._unseen)

    def with_unseen(self, ids: Mapping[str, Ids]) -> "RowSource":
        """The same rows, where some ids of tables stand for values never seen."""
        return RowSource(self.dataset, self._on_bad_shard, ids)

    def read(self, parts: Sequence[Part], context: Context | None = None, padding: int = 0) -> tuple[pa.Table, Array]:
        """Rows of some parts of row groups, and their positions in the split: (rows,) int64.

        Args:
            context: clusters and segments, whose columns are read beside those of training.
            padding: number of rows to add, whose position is :data:`FILL`.

        Raises:
            ValueError: a row group cannot be read, unless bad shards are skipped.
        """
        pieces = list(self.pieces(parts, context))
        if padding:
            pieces.append(self.padding(padding, context, FILL))
        tables, positions = zip(*pieces, strict=True)
        return pa.concat_tables(tables, promote_options="permissive"), np.concatenate(positions)

    def pieces(self, parts: Sequence[Part], context: Context | None = None) -> Iterator[tuple[pa.Table, Array]]:
        """The rows of each part, as of :meth:`read`, and their positions."""
        return map_ahead(lambda part: self._read(part, context), parts, self.dataset.reads_at_once)

    def padding(self, rows: int, context: Context | None = None, position: int = LOST) -> tuple[pa.Table, Array]:
        """Padding rows."""
        schema = self.dataset.schema
        id_type, empty = pa.int32(), pa.array([[]] * rows, pa.list_(pa.int32()))
        columns: dict[str, Array | pa.Array] = {
            feature.name: empty if feature.multi_hot else pa.array(np.zeros(rows), id_type)
            for feature in schema.categorical
        }
        columns |= {name: np.zeros(rows, dtype=np.int8) for name in schema.label_columns}
        numbers = (*schema.dense, *schema.regression_labels, *schema.weight_columns)
        columns |= {name: np.zeros(rows, dtype=np.float32) for name in numbers}
        columns |= {} if context is None else context.padding(schema, rows)
        return pa.table(columns), np.full(rows, position, dtype=np.int64)

    def _read(self, part: Part, context: Context | None) -> tuple[pa.Table, Array]:
        group = part.row_group
        if group.file in self._lost:
            return self.padding(part.rows, context)
        further = [] if context is None else context.columns(self.dataset.schema)
        try:
            table = self.dataset.read(group, list(dict.fromkeys([*self.dataset.columns, *further])))
        except ValueError as error:
            if self._on_bad_shard == "stop":
                raise
            self._lose(group, error)
            return self.padding(part.rows, context)
        first = group.first_row
        table = table.slice(part.start, part.rows)
        for feature in self.dataset.schema.categorical:
            if (ids := self._unseen.get(feature.table_name)) is not None:
                place = table.column_names.index(feature.name)
                table = table.set_column(place, feature.name, with_unseen(table[feature.name], ids))
        return table, np.arange(first + part.start, first + part.stop, dtype=np.int64)

    def _lose(self, bad: RowGroup, error: ValueError) -> None:
        message = str(error)
        if self._lost.setdefault(bad.file, message) is not message:  # another thread has reported it
            return
        groups = [group for split in self.dataset.row_groups.values() for group in split if group.file == bad.file]
        rows = sum(group.rows for group in groups)
        print(f"{message}; this reader leaves out the rest of the file's {rows} rows", file=sys.stderr, flush=True)
