"""CSV files, plain or compressed, streamed in bounded memory, with errors of one line."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from data_prep.sources.raw_files import find_named
from data_prep.sources.text_file import check_is_text, open_text
from dlrm_mtl.quoting import shorten

BLOCK_BYTES = 4 << 20
"""Bytes parsed at a time: about 55,000 rows of 75 bytes."""

HEADER_BYTES = 1 << 16


def find(directory: Path, pattern: str) -> list[Path]:
    """Files ``pattern.csv`` of a directory, plain or compressed, by name.

    Raises:
        ValueError: there is no such directory, or a file is there both plain and compressed.
    """
    return find_named(directory, f"{pattern}.csv")


def find_one(directory: Path, pattern: str) -> Path:
    """The one file ``pattern.csv``. Raises ValueError where there is none or more than one."""
    paths = find(directory, pattern)
    if len(paths) != 1:
        names = ", ".join(path.name for path in paths) or "none"
        raise ValueError(f"{directory}: expected one file {pattern}.csv or .csv.gz, found {names}")
    return paths[0]


def header(path: Path) -> list[str]:
    """Column names of a file. Raises ValueError where it cannot be read or is empty."""
    check_is_text(path)
    with _errors_of(path, []), open_text(path) as stream:
        first_line = stream.read(HEADER_BYTES).decode("utf-8-sig", errors="replace").splitlines()[:1]
    if not first_line:
        raise ValueError(f"{path}: is empty; expected a line with column names")
    return next(csv.reader(first_line))


def require_columns(path: Path, columns: Sequence[str]) -> None:
    """Raises ValueError where a file lacks a column."""
    present = header(path)
    for column in columns:
        if column not in present:
            raise ValueError(f"{path}: column {column!r} is missing; the file has {shorten(', '.join(present))}")


def read_batches(path: Path, types: Mapping[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
    """The named columns of a file, batch by batch. An empty field is null.

    Raises:
        ValueError: naming file, line, column and value, where a value is not of its column's type, a line has too
            few or too many fields, or the file cannot be decompressed.
    """
    names = header(path)
    with _errors_of(path, names):
        reader = pa.csv.open_csv(
            open_text(path),
            # With one thread the parser's error messages have row numbers.
            read_options=pa.csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False),
            convert_options=pa.csv.ConvertOptions(
                include_columns=list(types), column_types=dict(types), null_values=[""], strings_can_be_null=True
            ),
        )
    while True:
        with _errors_of(path, names):
            batch = next(reader, None)
        if batch is None:
            return
        yield batch


def read_table(path: Path, types: Mapping[str, pa.DataType]) -> pa.Table:
    """The named columns of a whole file, each in one chunk. Errors as in ``read_batches``."""
    batches = list(read_batches(path, types))
    schema = pa.schema(list(types.items()))
    return pa.Table.from_batches(batches, schema).select(list(types)).unify_dictionaries().combine_chunks()


@contextmanager
def _errors_of(path: Path, names: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except pa.ArrowInvalid as error:
        match = re.search(r"CSV column #(\d+): Row #(\d+): CSV conversion error to (\S+): (.*)", str(error), re.DOTALL)
        if match is None:
            raise ValueError(f"{path}: {shorten(str(error).replace('Row #', 'line '))}") from None
        column, line, kind, reason = match.groups()
        raise ValueError(
            f"{path}, line {line}: column {names[int(column)]!r} has an {shorten(reason)}, expected {kind}"
        ) from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({shorten(str(error))})") from None
