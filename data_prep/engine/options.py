"""Command-line options of preparations from raw logs."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from data_prep.columns.layout import Layout
from data_prep.ids.assignment import Method
from data_prep.ids.vocabulary import RESERVED_IDS
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
class IdOptions:
    """How categorical values become ids. Ids 0 (missing) and 1 (not in the vocabulary) are reserved in every table."""

    ids: Method = "vocabulary"
    """vocabulary: learnt from the training rows, in a pass over the log. hash, modulo: functions of the value, without
    that pass."""
    min_count: int = 1
    """vocabulary: a value needs at least so many occurrences in training rows for an id of its own."""
    max_ids: int = 0
    """Maximum number of each table's ids, reserved ones included. vocabulary: the most frequent values are kept; 0: no
    maximum. hash and modulo: the size of the tables."""
    table_max_ids: dict[str, int] = field(default_factory=dict)
    """max_ids of single tables, by name: cat_0 40000000 cat_9 1000."""
    multi_hot: dict[str, int] = field(default_factory=dict)
    """Ids per row to which one-hot features are expanded, by name: cat_0 3 cat_20 100."""
    encoding: Path | None = None
    """Data set whose encoding is used: its vocabularies or hashes, means and deviations, so that its models fit these
    rows. By default they are learnt, by the options above."""

    def validate(self, layout: Layout) -> None:
        """Raises ValueError where an option is out of range, names an unknown table or feature, or contradicts
        ``encoding``."""
        if self.encoding is not None:
            refuse_changed(self, IdOptions(), "ids", "min_count", "max_ids", "table_max_ids", "multi_hot")
        if self.min_count < 1:
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

    def validate(self) -> None:
        """Raises ValueError where an option is out of range."""
        if self.workers < 1:
            raise ValueError(f"workers {self.workers}: expected at least 1")
