"""Opens parquet files, and tells damaged ones from stores that cannot be reached."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dlrm_mtl.ending import is_out_of_files
from dlrm_mtl.location import Location, store_failed
from dlrm_mtl.quoting import shorten

UNREADABLE = (OSError, ValueError, OverflowError, RuntimeError, MemoryError, pa.ArrowException)
"""What pyarrow raises for damaged files: ValueError for invalid UTF-8, OverflowError for impossible sizes, and
others."""


def open_parquet(path: Location) -> pq.ParquetFile:
    """Opens a parquet file. In a store, the columns of a row group are fetched by few requests, of adjacent bytes.

    Raises:
        FileNotFoundError: there is no such file.
        others of :data:`UNREADABLE`: it is damaged, or see :func:`is_of_file`.
    """
    if isinstance(path, Path):
        return pq.ParquetFile(path)
    return pq.ParquetFile(path.key, filesystem=path.filesystem, pre_buffer=True)


def read_table(path: Location, columns: list[str] | None = None) -> pa.Table:
    """Reads some columns of a whole file, by default all. Raises what :func:`open_parquet` does."""
    with open_parquet(path) as file:
        return file.read(columns)


def is_of_file(error: BaseException) -> bool:
    """Whether reading failed because of the file. Otherwise the store refuses requests or cannot be reached, or too
    many files are open: the file may be good, and its rows must not be left out."""
    return not (is_out_of_files(error) or store_failed(error))


def first_line(error: BaseException) -> str:
    """The message of an error of the system or pyarrow, without positions in its source code."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return shorten(text.strip().split("\n")[0])
