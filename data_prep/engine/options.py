"""Command-line options of preparations from raw logs."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

from data_prep.columns.layout import Layout
from data_prep.encoding.extending import Previous
from data_prep.ids.assignment import Method
from data_prep.ids.vocabulary import RESERVED_IDS
from dlrm_mtl.location import Location, RemotePath
from dlrm_mtl.quoting import quote


@dataclass(frozen=True)
class ContextOptions:
    """Columns kept of evaluation rows, for intervals and for metrics by segment; they may also be features. Two
    segments
    are added: day, where rows have a time, and user, where there is a cluster (known: it has training rows; new)."""

    cluster: str = ""
    """Column whose value the rows of a cluster share, such as the user's: such rows are not independent. By default the
    layout's. A row without a value is a cluster of its own."""
    segments: tuple[str, ...] = ()
    """Columns whose values divide the evaluation rows: the 64 most frequent values, and other. By default the
    layout's."""

    def apply(self, layout: Layout) -> Layout:
        """The layout with the columns of these options.

        Raises:
            ValueError: a column is named twice, is of lists, or is unknown to the layout.
        """
        return replace(layout, cluster=self.cluster or layout.cluster, segments=self.segments or layout.segments)


def refuse_changed(options: Any, defaults: Any, *names: str, by: str = "encoding") -> None:
    """Raises ValueError where one of these options, which say how ids are learnt, is not its default."""
    for name in names:
        if (value := getattr(options, name)) != getattr(defaults, name):
            raise ValueError(f"{name} {quote(value)}: contradicts {by}, by which ids are assigned; leave it out")


@dataclass(frozen=True)
class StreamOptions:
    """Data sets for a model that is trained period by period, such as day by day (docs/streaming.md)."""

    stream: bool = False
    """All rows go to the split stream, and the data set begins a chain that extend continues. A task may have one class
    alone."""
    extend: Location | None = None
    """Data set of the period before: known values keep their ids, new ones are admitted, and dense features keep their
    scales. All rows go to the split stream. min_count and the maximum numbers of ids stay as they are unless they are
    given."""

    @property
    def is_used(self) -> bool:
        return self.stream or self.extend is not None


@dataclass(frozen=True)
class IdOptions:
    """How categorical values become ids. Ids 0 (missing) and 1 (not in the vocabulary) are reserved in every table."""

    ids: Method = "vocabulary"
    """vocabulary: learnt from the training rows, in a pass over the log. hash, modulo: functions of the value, without
    that pass."""
    min_count: int | None = None
    """vocabulary: a value needs at least so many occurrences in training rows for an id of its own. By default 1."""
    max_ids: int = 0
    """Maximum number of each table's ids, reserved ones included. vocabulary: the most frequent values are kept; 0: no
    maximum. hash and modulo: the size of the tables."""
    table_max_ids: dict[str, int] = field(default_factory=dict)
    """max_ids of single tables, by name: cat_0 40000000 cat_9 1000."""
    multi_hot: dict[str, int] = field(default_factory=dict)
    """Ids per row to which one-hot features are expanded, by name: cat_0 3 cat_20 100."""
    encoding: Location | None = None
    """Data set whose encoding is used: its vocabularies or hashes, means and deviations, so that its models fit these
    rows. By default they are learnt, by the options above."""

    def validate(self, layout: Layout) -> None:
        """Raises ValueError where an option is out of range, names an unknown table or feature, or contradicts
        ``encoding``."""
        if self.encoding is not None:
            refuse_changed(self, IdOptions(), "ids", "min_count", "max_ids", "table_max_ids", "multi_hot")
        if self.least_count < 1:
            raise ValueError(f"min_count {self.min_count}: expected at least 1")
        for name in self.table_max_ids:
            if name not in layout.tables:
                raise ValueError(f"table_max_ids: no table {name!r}; expected one of {', '.join(layout.tables)}")
        one_hot = [feature.feature for feature in layout.categorical if not feature.multi_hot]
        for name, length in self.multi_hot.items():
            if name not in one_hot:
                raise ValueError(f"multi_hot: no one-hot feature {name!r}; expected one of {', '.join(one_hot)}")
            if length < 1:
                raise ValueError(f"multi_hot {name} {length}: expected at least 1")
        for table in layout.tables:
            cap = self.cap(layout, table)
            if cap == 0 and self.ids != "vocabulary":
                raise ValueError(f"table {table!r}: {self.ids} needs max_ids, the number of ids of the table")
            if cap and not RESERVED_IDS < cap < 2**31:
                raise ValueError(f"table {table!r}: max_ids {cap}, expected {RESERVED_IDS + 1} to {2**31 - 1}")

    @property
    def least_count(self) -> int:
        """``min_count``, or its default."""
        return 1 if self.min_count is None else self.min_count

    def check_stream(self) -> None:
        """Raises ValueError where an option contradicts the split stream."""
        if self.encoding is not None:
            raise ValueError(
                f"encoding {self.encoding}: contradicts stream and extend; extend goes on with an encoding"
            )
        if self.multi_hot and self.ids == "vocabulary":
            raise ValueError(
                f"multi_hot {quote(self.multi_hot)}: the lists depend on the size of a table, which grows; expected ids"
                " hash or modulo"
            )

    def going_on(self, previous: Previous, layout: Layout) -> "IdOptions":
        """The options of a data set that continues another one: that one's, but for the minimum count and capacities
        that are given here.

        Raises:
            ValueError: a capacity is below the ids that there are, or another option is given.
        """
        refuse_changed(self, IdOptions(), "ids", "multi_hot", by="extend")
        encoding = previous.reused.encoding
        tables = encoding.tables_with_vocabulary
        if not tables:
            refuse_changed(self, IdOptions(), "min_count", "max_ids", "table_max_ids", by="extend")
        capacities = {}
        for table in tables:
            size = encoding.fingerprints.tables[table].size
            given = self.table_max_ids.get(table, 0 if layout.tables[table][0].max_ids else self.max_ids)
            if given and given < size:
                raise ValueError(
                    f"table {quote(table)}: max_ids {given}, expected at least the {size} ids of"
                    f" {previous.reused.directory}"
                )
            capacities[table] = given or previous.growth.capacities[table]
        method = "vocabulary" if tables else encoding.fingerprints.tables[next(iter(encoding.tables))].method
        min_count = previous.growth.min_count if self.min_count is None else self.min_count
        return replace(self, ids=cast(Method, method), min_count=min_count, table_max_ids=capacities)

    def cap(self, layout: Layout, table: str) -> int:
        """Maximum number of a table's ids: ``table_max_ids``, else that of the layout, else ``max_ids``."""
        return self.table_max_ids.get(table, layout.tables[table][0].max_ids or self.max_ids)


@dataclass(frozen=True)
class WorkOptions:
    """How the work is done."""

    workers: int = 1
    """Processes on this machine."""
    on_bad_row: Literal["stop", "quarantine"] = "stop"
    """stop: end with the first bad row. quarantine: write bad rows and the reasons to OUT/quarantine.jsonl, and
    continue."""

    keep_parsed: bool = True
    """Keep the rows that the first of two passes has parsed on disk for the second: faster, at the cost of temporary
    disk space. Text logs only."""

    work: Path | None = None
    """Where out is a URI: directory of a file system for the work, which needs the room of the data set and of what is
    counted; several machines share it."""

    def validate(self, out: Location) -> None:
        """Raises ValueError where an option is out of range, or does not go with ``out``."""
        if self.workers < 1:
            raise ValueError(f"workers {self.workers}: expected at least 1")
        if isinstance(out, RemotePath):
            if self.work is None or not out.name:
                raise ValueError(f"out {out}: expected a folder of a bucket or host, and --work DIR, on a file system")
        elif self.work is not None:
            raise ValueError(f"work {self.work}: expected none, since out is a path")
