"""A data set's parquet files, seen through their footers: row groups, row counts, column types."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest
from pathlib import Path

import pyarrow as pa

from dlrm_mtl.data.ahead import map_ahead
from dlrm_mtl.data.footers import read_footer
from dlrm_mtl.data.shards import BadShard, DataRecord, first_of_each
from dlrm_mtl.location import Location
from dlrm_mtl.meaning import find_difference
from dlrm_mtl.quoting import quote
from dlrm_mtl.run_config import OnBadShard
from dlrm_mtl.schema import Schema, Shard, read_schema
from dlrm_mtl.storage.parquet import UNREADABLE, first_line, is_of_file, open_parquet
from dlrm_mtl.storage.transfer import REQUESTS


@dataclass(frozen=True)
class RowGroup:
    """A row group: the unit of reading."""

    file: Location
    index: int
    """Position in its file."""
    rows: int
    first_row: int
    """Position of its first row in the split, as schema.json lists it."""

    def __str__(self) -> str:
        return f"{self.file}, row group {self.index}"


@dataclass(frozen=True)
class Dataset:
    """A data set on disk. Opening it reads the schema and the parquet footers, nothing else."""

    directory: Location
    schema: Schema
    """Schema of the shards that are not left out."""
    row_groups: dict[str, tuple[RowGroup, ...]]
    """Row groups by split."""
    left_out: tuple[BadShard, ...] = ()
    """Shards that are left out from the beginning: their rows are not in the order of rows."""
    lost: tuple[BadShard, ...] = ()
    """Shards lost during a run: their rows keep their places and are read as padding."""

    @cached_property
    def columns(self) -> list[str]:
        """Columns that training needs."""
        categorical = [feature.name for feature in self.schema.categorical]
        return [*categorical, *self.schema.dense, *self.schema.label_columns, *self.schema.weight_columns]

    @property
    def reads_at_once(self) -> int:
        """Row groups and footers that are read at the same time, beside the work on those before; 0: each is read when
        it is needed. Requests of a store take long, and do not wait for each other."""
        return 0 if isinstance(self.directory, Path) else REQUESTS

    @property
    def shards(self) -> list[tuple[str, Shard]]:
        """Split and shard, in the order of schema.json."""
        return [(split, shard) for split in self.schema.split_names for shard in self.schema.splits[split]]

    def of_tasks(self, names: Collection[str]) -> "Dataset":
        """The same rows with the labels of some tasks."""
        tasks = tuple(task for task in self.schema.tasks if task.name in names)
        return replace(self, schema=replace(self.schema, tasks=tasks))

    def without(self, bad: Iterable[BadShard]) -> "Dataset":
        """This data set when some shards are left out from the beginning.

        Raises:
            ValueError: a split has no good shard left.
        """
        left_out = first_of_each([*self.left_out, *bad])
        row_groups = {split: self._good_row_groups(split, left_out) for split in self.schema.split_names}
        gone = {(shard.split, shard.file) for shard in left_out}
        splits = {
            split: tuple(shard for shard in self.schema.splits[split] if (split, shard.file) not in gone)
            for split in self.schema.split_names
        }
        return replace(self, schema=replace(self.schema, splits=splits), row_groups=row_groups, left_out=left_out)

    def losing(self, bad: Iterable[BadShard]) -> "Dataset":
        """This data set when some shards are lost in the middle of a run: the order of rows stays as it was.

        Raises:
            ValueError: a split has no good shard left.
        """
        lost = first_of_each([*self.lost, *bad])
        for split in self.schema.split_names:
            self._good_row_groups(split, lost)
        return replace(self, lost=lost)

    def read(self, row_group: RowGroup, columns: Sequence[str]) -> pa.Table:
        """Reads some columns of one row group.

        Raises:
            ValueError: the file cannot be read, or has changed since it was opened; the message names file and row
                group.
            OSError: it cannot be read for a reason that lies elsewhere.
        """
        try:
            with open_parquet(row_group.file) as file:
                table = file.read_row_group(row_group.index, columns=list(columns), use_threads=False)
                table.validate()
        except UNREADABLE as error:
            if not is_of_file(error):
                raise
            raise ValueError(f"{row_group}: cannot be read ({first_line(error)})") from None
        if len(table) != row_group.rows:
            raise ValueError(f"{row_group}: {len(table)} rows, expected {row_group.rows}; the file has changed")
        for column in columns:
            if table.column_names.count(column) != 1:
                raise ValueError(f"{row_group}: column {quote(column)} is missing; the file has changed")
        return _with_bags(table, [feature.name for feature in self.schema.categorical if feature.multi_hot])

    def _good_row_groups(self, split: str, bad: Sequence[BadShard]) -> tuple[RowGroup, ...]:
        files = {self.directory / shard.file: shard for shard in bad if shard.split == split}
        good = tuple(group for group in self.row_groups[split] if group.file not in files)
        if not any(group.rows for group in good):
            why = f": {next(iter(files.values())).why}" if files else ""
            raise ValueError(f"{self.directory}: split {split!r} has no good shard left{why}")
        return good


def open_dataset(directory: Location, on_bad_shard: OnBadShard = "stop", schema: Schema | None = None) -> Dataset:
    """Opens a data set. With ``on_bad_shard="skip"``, a shard with one of the faults below is left out; see
    :attr:`Dataset.left_out`.

    Args:
        schema: by default that of the directory's ``schema.json``.

    Raises:
        ValueError: no data set; a file is missing, truncated or has another row count than the schema says; a column is
            missing or has the wrong type. The message names file and column. A split has no rows or no good shard.
    """
    schema = schema or read_schema(directory)
    dataset = Dataset(directory, schema, {})

    def read(split_and_shard: tuple[str, Shard]) -> Sequence[int] | BadShard:
        split, shard = split_and_shard
        try:
            return read_footer(directory / shard.file, shard.rows, schema, split)
        except ValueError as error:
            if on_bad_shard == "stop":
                raise
            return BadShard(split, shard.file, shard.rows, str(error))

    row_groups: dict[tuple[str, str], Sequence[int]] = {}
    bad = []
    footers = map_ahead(read, dataset.shards, dataset.reads_at_once)
    for (split, shard), footer in zip(dataset.shards, footers, strict=True):
        if isinstance(footer, BadShard):
            bad.append(footer)
        else:
            row_groups[split, shard.file] = footer
    for split in schema.split_names:
        if not schema.rows(split):
            raise ValueError(f"{directory}: split {split!r} has no rows")
    return replace(dataset, row_groups=_row_groups(directory, schema, row_groups)).without(bad)


def open_recorded(directory: Location, record: DataRecord, schema: Schema) -> Dataset:
    """Opens the data set of a schema as a run recorded it when it began: reads no shard.

    Raises:
        ValueError: the schema says that ids or dense values stand for something else, or lists other
            shards than the run began with.
    """
    difference = find_difference(record.meaning, schema.meaning) if record.meaning else None
    if difference is not None:
        raise ValueError(
            f"{directory / 'schema.json'}: {difference.what} is {difference.now}, when the run began it was"
            f" {difference.before}; go on with the data set that the run began with, or give another --out"
        )
    bad = {(shard.split, shard.file) for shard in record.bad}
    listed = [
        (split, shard.file, shard.rows)
        for split in schema.split_names
        for shard in schema.splits[split]
        if (split, shard.file) not in bad
    ]
    expected = [(shard.split, shard.file, shard.rows) for shard in record.shards]
    for found, began_with in zip_longest(listed, expected):
        if found != began_with:
            raise ValueError(
                f"{directory / 'schema.json'}: lists {_name(found)} where the run began with {_name(began_with)};"
                " expected the same shards in the same order"
            )
    row_groups = {(shard.split, shard.file): shard.row_groups for shard in record.shards}
    return Dataset(directory, schema, _row_groups(directory, schema, row_groups)).without(record.bad)


def _name(shard: tuple[str, str, int] | None) -> str:
    return f"{shard[0]} shard {shard[1]!r} of {shard[2]} rows" if shard else "no further shard"


def _row_groups(
    directory: Location, schema: Schema, sizes: Mapping[tuple[str, str], Sequence[int]]
) -> dict[str, tuple[RowGroup, ...]]:
    """The row groups of each split, from the rows of each row group of the shards that have any."""
    found = {}
    for split in schema.split_names:
        groups: list[RowGroup] = []
        first_row_of_shard = 0
        for shard in schema.splits[split]:
            first_row = first_row_of_shard
            for index, rows in enumerate(sizes.get((split, shard.file), ())):
                groups.append(RowGroup(directory / shard.file, index, rows, first_row))
                first_row += rows
            first_row_of_shard += shard.rows
        found[split] = tuple(groups)
    return found


def _with_bags(table: pa.Table, features: Sequence[str]) -> pa.Table:
    """Converts a table's features of lists of fixed size to lists with offsets."""
    for name in features:
        if name in table.column_names and pa.types.is_fixed_size_list(table[name].type):
            column = table[name]
            index = table.column_names.index(name)
            table = table.set_column(index, name, column.cast(pa.list_(column.type.value_type)))
    return table
