"""The raw KuaiRand files: found by name, checked, and the log streamed against the tables held in memory.

These are not read, because they are outcomes of the impression or contain its future: profile_stay_time,
comment_stay_time, is_rand and the table of video statistics. Labels are never features, and play_time_ms is read as the
label of the task play alone.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_prep.columns.arrays import NULL, Integers, one_chunk, to_integers
from data_prep.columns.arrow_columns import READABLE, family, item_type, read_lists, read_values, value_type
from data_prep.columns.days import to_days
from data_prep.encoding.kuairand import HISTORY_LISTS, LOG_COLUMNS, USER_TYPES, VIDEO_TYPES
from data_prep.kuairand_log import csv_files
from data_prep.sources.raw_files import find_named
from dlrm_mtl.quoting import quote, shorten

MILLISECONDS_PER_DAY = 86_400_000
BEIJING_MS = 8 * 3_600_000
"""Offset of the log's dates from Unix time."""


@dataclass(frozen=True)
class RawFiles:
    """The files of a KuaiRand directory."""

    logs: tuple[Path, ...]
    users: Path
    videos: Path
    history: Path | None

    @property
    def names(self) -> list[str]:
        paths = [*self.logs, self.users, self.videos, *([self.history] if self.history else [])]
        return [path.name for path in paths]


def discover(raw: Path, include_random: bool, labels: Iterable[str]) -> RawFiles:
    """Finds the files and checks their columns, before any of them is read.

    Raises:
        ValueError: a file or a column is missing, or a file is there both plain and compressed.
    """
    logs = csv_files.find(raw, "log_standard_*")
    if not logs:
        raise ValueError(f"{raw}: expected files log_standard_*.csv or .csv.gz, found none")
    if include_random:
        random = csv_files.find(raw, "log_random_*")
        if not random:
            raise ValueError(f"{raw}: expected files log_random_*.csv or .csv.gz, found none")
        logs += random
    histories = find_named(raw, "user_history_to_*.parquet")
    if len(histories) > 1:
        raise ValueError(f"{raw}: expected at most one user_history_to_*.parquet, found {len(histories)}")
    files = RawFiles(
        tuple(logs),
        csv_files.find_one(raw, "user_features_*"),
        csv_files.find_one(raw, "video_features_basic_*"),
        histories[0] if histories else None,
    )
    for path in files.logs:
        csv_files.require_columns(path, [*LOG_COLUMNS, *labels])
    csv_files.require_columns(files.users, list(USER_TYPES))
    csv_files.require_columns(files.videos, list(VIDEO_TYPES))
    return files


class JoinTable:
    """A table in memory, looked up by its key."""

    def __init__(self, path: Path, key: str, columns: pa.Table) -> None:
        """Raises ValueError where a key is empty or occurs twice."""
        keys = to_integers(columns[key])
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]
        repeated = np.flatnonzero(self._keys[1:] == self._keys[:-1])
        if len(repeated):
            row, value = self._order[repeated[0] + 1], self._keys[repeated[0]]
            value = "empty" if value == NULL else value
            raise ValueError(f"{path}, row {row + 1}: {key} {value} has a row already, expected one row each")
        if len(keys) and self._keys[0] == NULL:
            raise ValueError(f"{path}, row {self._order[0] + 1}: {key} is empty, expected an id")
        self.columns = columns

    def __len__(self) -> int:
        return len(self._keys)

    def lookup(self, keys: Integers) -> Integers:
        """Row numbers of keys; ``len(self)`` where the table has no such key."""
        if not len(self):
            return np.zeros(len(keys), np.int64)
        position = np.minimum(np.searchsorted(self._keys, keys), len(self) - 1)
        return np.where(self._keys[position] == keys, self._order[position], len(self))


def read_users(path: Path) -> JoinTable:
    return JoinTable(path, "user_id", _read(path, USER_TYPES))


def read_videos(path: Path) -> JoinTable:
    table = _read(path, VIDEO_TYPES)
    return JoinTable(path, "video_id", _with_integers(path, table, ["music_id"]))


def read_history(path: Path) -> JoinTable:
    """Raises ValueError where the file cannot be read, a column is missing or not of lists, or an id is no integer."""
    columns = ["user_id", "last_time_ms", *HISTORY_LISTS]
    try:
        names = pq.read_schema(path).names
        for column in columns:
            if column not in names:
                raise ValueError(f"column {column!r} is missing; the file has {shorten(', '.join(names))}")
        table = pq.read_table(path, columns=columns)
    except (ValueError, OSError, pa.ArrowException) as error:
        raise ValueError(f"{path}: {shorten(str(error))}") from None
    for column in columns:
        kind = table[column].type
        items = item_type(kind) if column in HISTORY_LISTS else value_type(kind)
        if items is None or family(items) not in READABLE["integer"]:
            expected = "lists of video ids" if column in HISTORY_LISTS else "integers"
            raise ValueError(f"{path}: column {column!r} is {shorten(str(kind))}, expected {expected}")
    return JoinTable(path, "user_id", _with_integers(path, table, columns))


def _read(path: Path, types: Mapping[str, pa.DataType]) -> pa.Table:
    """The named columns of a CSV file; NaN is a missing value."""
    table = csv_files.read_table(path, types)
    for place, (name, kind) in enumerate(types.items()):
        if kind == pa.float64():
            numbers = read_values(one_chunk(table[name]), "number", narrow_fractions=False)
            table = table.set_column(place, name, numbers.values)
    return table


def _with_integers(path: Path, table: pa.Table, names: Sequence[str]) -> pa.Table:
    """A table with the named columns as int64 or lists of int64. Raises ValueError where a value is no exact
    integer."""
    for name in names:
        values = one_chunk(table[name])
        read = (read_lists if name in HISTORY_LISTS else read_values)(values, "integer", narrow_fractions=False)
        for mask, reason in read.faults:
            for row in np.flatnonzero(mask)[:1]:
                raise ValueError(f"{path}, row {row + 1}: {name} is {quote(values[row].as_py())}, {reason}")
        table = table.set_column(table.column_names.index(name), name, read.values)
    return table.combine_chunks()


def check_history(files: RawFiles, history: JoinTable | None, first_used: int) -> None:
    """Raises ValueError where histories reach into the days used, the first of which is ``first_used`` (since 1970)."""
    if history is None:
        return
    newest = pc.max(history.columns["last_time_ms"]).as_py() or 0
    if (last := int((newest + BEIJING_MS) // MILLISECONDS_PER_DAY)) >= first_used:
        last_day, first_day = (np.datetime64(day, "D") for day in (last, first_used))
        raise ValueError(
            f"{files.history}: histories run to {last_day}, but rows are used from {first_day}: they would leak labels;"
            " give a later --train-from or take the file away"
        )


@dataclass(frozen=True)
class Impressions:
    """B rows of the log."""

    columns: dict[str, Integers]
    """LOG_COLUMNS without ``date``, and the labels; (B,) each, ``NULL`` where the field is empty."""
    day: Integers
    """Days since 1970, (B,)."""

    def __len__(self) -> int:
        return len(self.day)

    def select(self, rows: "np.ndarray") -> "Impressions":
        """The rows of a mask or of an index."""
        return Impressions({name: values[rows] for name, values in self.columns.items()}, self.day[rows])


def read_log(paths: Sequence[Path], labels: Mapping[str, str]) -> Iterator[Impressions]:
    """The log files one after the other, batch by batch.

    Args:
        labels: columns of labels, and how each is read: ``binary`` or ``number``.

    Raises:
        ValueError: a label is not 0 or 1, or is a number below 0, or a date is invalid; names file, line, column and
            value.
    """
    types = dict.fromkeys((*LOG_COLUMNS, *labels), pa.int64())
    for path in paths:
        line = 2
        for batch in csv_files.read_batches(path, types):
            columns = {name: to_integers(batch[name]) for name in types}
            for label, use in labels.items():
                if use == "binary":
                    _check(np.isin(columns[label], (0, 1)), columns[label], path, line, label, "0 or 1")
                else:
                    _check(columns[label] >= 0, columns[label], path, line, label, "an integer from 0 on")
            day = to_days(columns["date"])
            _check(day != NULL, columns["date"], path, line, "date", "a date as YYYYMMDD")
            yield Impressions({name: values for name, values in columns.items() if name != "date"}, day)
            line += len(batch)


def _check(valid: "np.ndarray", values: Integers, path: Path, first_line: int, column: str, expected: str) -> None:
    if not valid.all():
        row = int(np.argmin(valid))
        value = "empty" if values[row] == NULL else str(values[row])
        raise ValueError(f"{path}, line {first_line + row}: column {column!r} is {value}, expected {expected}")
