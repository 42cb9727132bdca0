"""A data set's parquet files, seen through their footers: row groups, row counts, column types."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dlrm_mtl.schema import SPLITS, Schema, read_schema


@dataclass(frozen=True)
class RowGroup:
    """A row group: the unit of reading."""

    file: Path
    index: int
    """Position in its file."""
    rows: int
    first_row: int
    """Position of its first row in the split."""

    def __str__(self) -> str:
        return f"{self.file}, row group {self.index}"


@dataclass(frozen=True)
class Dataset:
    """A data set on disk. Opening it reads the schema and the parquet footers, nothing else."""

    directory: Path
    schema: Schema
    row_groups: dict[str, tuple[RowGroup, ...]]
    """By split."""

    @cached_property
    def columns(self) -> list[str]:
        """Columns that training needs."""
        categorical = [feature.name for feature in self.schema.categorical]
        return [*categorical, *self.schema.dense, *self.schema.label_columns]

    def read(self, row_group: RowGroup, columns: Sequence[str]) -> pa.Table:
        """Reads some columns of one row group.

        Raises:
            ValueError: the file cannot be read; the message names file and row group.
        """
        try:
            with pq.ParquetFile(row_group.file) as file:
                return file.read_row_group(row_group.index, columns=list(columns), use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise ValueError(f"{row_group}: cannot be read ({_first_line(error)})") from None


def open_dataset(directory: Path) -> Dataset:
    """Opens a data set.

    Raises:
        ValueError: no data set; a file is missing, truncated or has another row count than the schema says; a column is
            missing or has the wrong type. The message names file and column.
    """
    schema = read_schema(directory)
    return Dataset(directory, schema, {split: _row_groups(directory, schema, split) for split in SPLITS})


def _row_groups(directory: Path, schema: Schema, split: str) -> tuple[RowGroup, ...]:
    groups: list[RowGroup] = []
    first_row = 0
    for shard in schema.splits[split]:
        path = directory / shard.file
        if not path.is_file():
            raise ValueError(f"{path}: not found, though schema.json lists it")
        try:
            with pq.ParquetFile(path) as file:
                metadata, arrow_schema = file.metadata, file.schema_arrow
        except (OSError, pa.ArrowException) as error:
            raise ValueError(
                f"{path}: no row group can be read, the file is truncated or not parquet ({_first_line(error)})"
            ) from None
        if metadata.num_rows != shard.rows:
            raise ValueError(f"{path}: {metadata.num_rows} rows, but schema.json says {shard.rows}")
        _check_columns(path, schema, arrow_schema)
        for index in range(metadata.num_row_groups):
            rows = metadata.row_group(index).num_rows
            groups.append(RowGroup(path, index, rows, first_row))
            first_row += rows
    if not first_row:
        raise ValueError(f"{directory}: split {split!r} has no rows")
    return tuple(groups)


def _check_columns(path: Path, schema: Schema, arrow_schema: pa.Schema) -> None:
    def require(column: str, valid: bool, expected: str) -> None:
        if not valid:
            found = arrow_schema.field(column).type
            raise ValueError(f"{path}: column {column!r} has type {found}, expected {expected}")

    def is_id(kind: pa.DataType) -> bool:
        return bool(pa.types.is_integer(kind))

    def is_list(kind: pa.DataType) -> bool:
        return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))

    names = [feature.name for feature in schema.categorical] + list(schema.dense) + list(schema.label_columns)
    missing = [name for name in names if name not in arrow_schema.names]
    if missing:
        raise ValueError(f"{path}: column {missing[0]!r} is missing; the file has {', '.join(arrow_schema.names)}")
    for feature in schema.categorical:
        kind = arrow_schema.field(feature.name).type
        if feature.multi_hot:
            require(feature.name, is_list(kind) and is_id(kind.value_type), "a list of integers")
        else:
            require(feature.name, is_id(kind), "an integer")
    for column in schema.dense:
        require(column, pa.types.is_floating(arrow_schema.field(column).type), "a floating-point number")
    for column in schema.label_columns:
        require(column, is_id(arrow_schema.field(column).type), "an integer, 0 or 1")


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
