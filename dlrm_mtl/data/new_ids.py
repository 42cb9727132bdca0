"""The ids of a data set that begin anew: their value is another one than in the data set that it continues."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dlrm_mtl.data.footers import is_list
from dlrm_mtl.files import sha256
from dlrm_mtl.location import Location
from dlrm_mtl.meaning import UNSEEN_ID
from dlrm_mtl.quoting import quote
from dlrm_mtl.schema import Schema
from dlrm_mtl.storage.parquet import UNREADABLE, first_line, is_of_file, read_table

Ids = npt.NDArray[np.int64]


def read_new_ids(directory: Location, schema: Schema) -> dict[str, Ids]:
    """By table, the ids (N,) that begin anew, ascending: those that the data set resets, then those that it appends.
    Tables without any are left out; where the data set continues none, the dictionary is empty.

    Raises:
        ValueError: a file is missing, has changed, or holds something else than ids of its table.
    """
    if schema.continues is None:
        return {}
    new_ids = {}
    for table, before in schema.continues.tables.items():
        reset = schema.continues.reset.get(table)
        old = _read(directory / reset.file, reset.sha256, reset.rows, table, before.size) if reset else _range(0, 0)
        appended = _range(before.size, schema.tables[table][0].cardinality)
        if len(old) or len(appended):
            new_ids[table] = np.concatenate([old, appended])
    return new_ids


def with_unseen(column: pa.ChunkedArray, new_ids: Ids) -> pa.ChunkedArray:
    """A column of ids, or of lists of ids, with :data:`UNSEEN_ID` for the new ones: what a vocabulary gives that does
    not have their values yet."""
    return pa.chunked_array([_with_unseen(chunk, new_ids) for chunk in column.chunks], column.type)


def _with_unseen(array: pa.Array, new_ids: Ids) -> pa.Array:
    if is_list(array.type):
        offsets = pa.array(np.cumsum([0, *pc.list_value_length(array).to_numpy()]), pa.int32())
        return pa.ListArray.from_arrays(offsets, _with_unseen(array.flatten(), new_ids)).cast(array.type)
    ids = array.to_numpy()
    place = np.minimum(np.searchsorted(new_ids, ids), len(new_ids) - 1)
    return pa.array(np.where(new_ids[place] == ids, UNSEEN_ID, ids).astype(ids.dtype), array.type)


def _read(path: Location, checksum: str, rows: int, table: str, size: int) -> Ids:
    if not path.is_file():
        raise ValueError(f"{path}: not found, the ids of table {quote(table)} that begin anew")
    if sha256(path) != checksum:
        raise ValueError(f"{path}: differs from the file that schema.json names (sha256)")
    try:
        ids = read_table(path, ["id"])["id"]
    except UNREADABLE as error:
        if not is_of_file(error):
            raise
        raise ValueError(f"{path}: cannot be read ({first_line(error)})") from None
    if ids.type != pa.int64() or ids.null_count or len(ids) != rows:
        raise ValueError(f"{path}: {len(ids)} values of type {ids.type}, expected {rows} of int64, none of them null")
    values: Ids = ids.to_numpy()
    if not 0 <= values[0] <= values[-1] < size or not (values[:-1] < values[1:]).all():
        raise ValueError(f"{path}: expected ids of table {quote(table)}, ascending, below the {size} that it had")
    return values


def _range(start: int, stop: int) -> Ids:
    return np.arange(start, stop, dtype=np.int64)
