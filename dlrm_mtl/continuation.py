"""What a data set of a period (a day, an hour) says about its time, and about the data set before it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePosixPath

from dlrm_mtl.meaning import TableFingerprint
from dlrm_mtl.quoting import quote


@dataclass(frozen=True)
class Period:
    """Times ``[start, stop)``: of ISO 8601, in UTC without a zone, or numbers. Raises ValueError for other texts, for
    one of each kind, and for a period without any time."""

    start: str
    stop: str

    def __post_init__(self) -> None:
        start, stop = parse_time(self.start), parse_time(self.stop)
        if type(start) is not type(stop):
            raise ValueError(f"period {quote(self.start)} to {quote(self.stop)}: expected two dates, or two numbers")
        if not start < stop:  # type: ignore[operator]
            raise ValueError(f"period {quote(self.start)} to {quote(self.stop)}: expected a start before its stop")

    def __str__(self) -> str:
        return f"{self.start} to {self.stop}"

    def is_before(self, later: "Period") -> bool:
        """Whether the period ends before the other one begins, or when it begins.

        Raises:
            ValueError: one is of dates, the other of numbers.
        """
        stop, start = parse_time(self.stop), parse_time(later.start)
        if type(stop) is not type(start):
            raise ValueError(f"periods {self} and {later}: expected both of dates, or both of numbers")
        return stop <= start  # type: ignore[operator, no-any-return]


@dataclass(frozen=True)
class ResetIds:
    """A file with ids of one table: parquet, column ``id``, int64, ascending. Raises ValueError for a path outside the
    data set's directory or an invalid checksum."""

    file: str
    """Path, relative to the data set's directory."""
    rows: int
    """Number of ids."""
    sha256: str

    def __post_init__(self) -> None:
        path = PurePosixPath(self.file)
        if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in self.file:
            raise ValueError(f"file {quote(self.file)}: expected a path inside the data set's directory")
        if self.rows < 1:
            raise ValueError(f"file {quote(self.file)} has {self.rows} rows, expected at least 1")
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError(f"file {quote(self.file)}: sha256 {quote(self.sha256)}, expected 64 hexadecimal digits")


@dataclass(frozen=True)
class Continuation:
    """How a data set continues another one: known values keep their ids, tables may have grown, and some ids begin
    anew with another value. Dense values keep their meaning."""

    data_set: str
    """Name of the data set before."""
    tables: Mapping[str, TableFingerprint]
    """Its tables."""
    reset: Mapping[str, ResetIds] = field(default_factory=dict)
    """By table, the ids that it had and whose value is another one now. Ids from its table's size on begin anew, too;
    they are not listed."""

    def __post_init__(self) -> None:
        for table, ids in self.reset.items():
            if table not in self.tables:
                raise ValueError(f"reset: the data set before has no table {quote(table)}")
            if ids.rows > self.tables[table].size:
                raise ValueError(f"reset: {ids.rows} ids of table {quote(table)}, which had {self.tables[table].size}")


def parse_time(text: str) -> datetime | float:
    """A time of ISO 8601 without a zone, or a number. Raises ValueError for other texts."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is not None:
        raise ValueError(f"time {quote(text)}: expected a number, or ISO 8601 without a zone")
    return time
