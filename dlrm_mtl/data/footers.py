"""Footers of parquet files: how many rows each row group has, and whether the columns are those of the schema."""

from collections.abc import Sequence

import pyarrow as pa

from dlrm_mtl.data.context import Context
from dlrm_mtl.location import Location
from dlrm_mtl.quoting import quote, shorten
from dlrm_mtl.schema import Schema, keeps_context
from dlrm_mtl.storage.parquet import UNREADABLE, first_line, is_of_file, open_parquet


def read_footer(path: Location, rows: int, schema: Schema, split: str) -> tuple[int, ...]:
    """Rows of each row group of a shard of a split that should have ``rows`` rows.

    Raises:
        ValueError: the file is not there, is no parquet file, or has other rows or columns than the schema says.
        OSError: it cannot be read for a reason that lies elsewhere.
    """
    try:
        with open_parquet(path) as file:
            metadata, arrow_schema = file.metadata, file.schema_arrow
            sizes = tuple(metadata.row_group(index).num_rows for index in range(metadata.num_row_groups))
            found = metadata.num_rows
    except FileNotFoundError:
        raise ValueError(f"{path}: not found, though schema.json lists it") from None
    except UNREADABLE as error:
        if not is_of_file(error):
            raise
        raise ValueError(
            f"{path}: no row group can be read, the file is truncated or not parquet ({first_line(error)})"
        ) from None
    if found != rows:
        raise ValueError(f"{path}: {found} rows, but schema.json says {rows}")
    if sum(sizes) != rows or min(sizes, default=0) < 0:
        raise ValueError(f"{path}: row groups of {sum(sizes)} rows, though the file says {rows}; it is damaged")
    context_columns = Context.of(schema).columns(schema) if keeps_context(split) else []
    _check_columns(path, schema, context_columns, arrow_schema)
    return sizes


def _check_columns(path: Location, schema: Schema, context_columns: Sequence[str], arrow_schema: pa.Schema) -> None:
    numbers = (*schema.dense, *schema.regression_labels, *schema.weight_columns)
    classes = [name for name in schema.label_columns if name not in schema.regression_labels]
    names = [*(feature.name for feature in schema.categorical), *numbers, *classes, *context_columns]
    for name in names:
        count = arrow_schema.names.count(name)
        if count == 0:
            has = shorten(", ".join(arrow_schema.names))
            raise ValueError(f"{path}: column {quote(name)} is missing; the file has {has}")
        if count > 1:
            raise ValueError(f"{path}: column {quote(name)} stands {count} times in the file, expected once")

    def require(column: str, valid: bool, expected: str) -> None:
        if not valid:
            kind = shorten(str(arrow_schema.field(column).type))
            raise ValueError(f"{path}: column {quote(column)} has type {kind}, expected {expected}")

    for feature in schema.categorical:
        kind = arrow_schema.field(feature.name).type
        if feature.multi_hot:
            valid = is_list(kind) and pa.types.is_integer(kind.value_type)
            require(feature.name, valid, "a list of integers")
        else:
            require(feature.name, pa.types.is_integer(kind), "an integer")
    for column in numbers:
        require(column, pa.types.is_floating(arrow_schema.field(column).type), "a floating-point number")
    for column in classes:
        require(column, pa.types.is_integer(arrow_schema.field(column).type), "an integer, 0 or 1")
    for column in context_columns:
        require(column, pa.types.is_integer(arrow_schema.field(column).type), "an integer")


def is_list(kind: pa.DataType) -> bool:
    """Whether a column is of lists, of any list type."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
