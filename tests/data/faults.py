"""What happens to files of a data set."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

Fault = Callable[[Path], None]


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    table = pq.read_table(path)
    pq.write_table(change(table), path, row_group_size=64)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def write_text(path: Path) -> None:
    path.write_text("not parquet")


def destroy_a_page(path: Path) -> None:
    """Random bytes at the beginning of the last row group."""
    metadata = pq.ParquetFile(path).metadata
    group = metadata.row_group(metadata.num_row_groups - 1)
    columns = [group.column(index) for index in range(group.num_columns)]
    start = min(column.dictionary_page_offset or column.data_page_offset for column in columns)
    data = bytearray(path.read_bytes())
    data[start : start + 400] = np.random.default_rng(0).bytes(400)
    path.write_bytes(bytes(data))


def flip_a_byte(path: Path) -> None:
    """In a place that no reader of parquet looks at: the name of the program that wrote the file."""
    data = path.read_bytes()
    assert data.count(b"parquet-cpp-arrow") == 1
    path.write_bytes(data.replace(b"parquet-cpp-arrow", b"parquet-cpp-brrow"))


def change_a_value(path: Path) -> None:
    """A good shard with other contents."""
    rewrite(path, lambda table: table.set_column(table.column_names.index("user"), "user", pa.array([1] * len(table))))


def use_an_unknown_id(path: Path) -> None:
    rewrite(path, lambda table: table.set_column(table.column_names.index("user"), "user", pa.array([50] * len(table))))


FAULTS: dict[str, tuple[Fault, str]] = {
    "missing": (Path.unlink, "not found, though schema.json lists it"),
    "truncated": (truncate, "no row group can be read, the file is truncated or not parquet"),
    "not parquet": (write_text, "no row group can be read"),
    "a row less": (lambda path: rewrite(path, lambda table: table.slice(1)), r"\d+ rows, but schema.json says \d+"),
    "no column": (lambda path: rewrite(path, lambda table: table.drop_columns(["price"])), "'price' is missing"),
    "a page": (destroy_a_page, r"row group \d: cannot be read"),
    "a value": (use_an_unknown_id, r"row 0 is 50, expected an id in \[0, 49\]"),
    "a byte": (flip_a_byte, "sha256 is [0-9a-f]{64}, but schema.json says [0-9a-f]{64}"),
    "other contents": (change_a_value, "sha256 is [0-9a-f]{64}, but schema.json says [0-9a-f]{64}"),
}
"""Each fault, and how it is named when a run begins."""
