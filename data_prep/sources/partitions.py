"""Columns from the names of directories, ``KEY=VALUE`` as Hive and Spark write them, for all rows below."""

from collections.abc import Collection
from urllib.parse import unquote

import pyarrow as pa

from data_prep.columns.arrow_columns import read_values
from data_prep.columns.layout import Layout
from data_prep.columns.raw_columns import allowed_texts, required_columns
from data_prep.columns.rows import EXPECTED
from data_prep.sources.delimited import CHECKS
from dlrm_mtl.location import Location
from dlrm_mtl.quoting import quote, shorten

NULL = "__HIVE_DEFAULT_PARTITION__"
"""Stands for a missing value."""

PARSERS = {"hex": str, "string": str, "integer": int, "number": float, "weight": float, "binary": int}

TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64()}


def partition_of(path: Location) -> dict[str, str | None]:
    """The keys and values in a file's path, decoded (``%20`` is a space); None for a missing value.

    Raises:
        ValueError: a name cannot be decoded.
    """
    values: dict[str, str | None] = {}
    for name in path.parts[:-1]:
        key, equals, value = name.partition("=")
        if key and equals:
            try:
                key, value = unquote(key, errors="strict"), unquote(value, errors="strict")
            except UnicodeDecodeError:
                raise ValueError(
                    f"{path}: the name of directory {quote(name)} is no UTF-8 once it is decoded"
                ) from None
            values[key] = None if value in (NULL, "") else value
    return values


def partition_columns(path: Location, layout: Layout, in_file: Collection[str]) -> dict[str, pa.Array]:
    """The columns of a layout that the path gives and the file lacks: one value (1,) each, of the type of its use.

    Raises:
        ValueError: a value cannot be used as the layout says.
    """
    allowed, required = allowed_texts(layout), required_columns(layout)
    columns = {}
    for key, text in partition_of(path).items():
        use = layout.uses.get(key)
        if use is None or key in in_file:
            continue
        place = f"{path}, directory {key}={'' if text is None else quote(text)}"
        if use == "list":
            raise ValueError(f"{place}: column {key!r} is multi_hot, expected a list of values; give it a separator")
        if text is None and key in required:
            raise ValueError(f"{place}: {required[key]}")
        if text is not None and not CHECKS[use](text):
            raise ValueError(f"{place}: expected {EXPECTED[use]}")
        if text is not None and text not in allowed.get(key, [text]):
            raise ValueError(f"{place}: expected {shorten(' or '.join(allowed[key]))}")
        parser = PARSERS[use]
        value = pa.array([None if text is None else parser(text)], TYPES[parser])
        columns[key] = read_values(value, use, narrow_fractions=True).values
    return columns


def repeated(columns: dict[str, pa.Array], rows: int) -> dict[str, pa.Array]:
    """The columns with their one value repeated for so many rows."""
    return {name: pa.repeat(column[0], rows) for name, column in columns.items()}
