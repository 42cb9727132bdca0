"""What the command lines of preparations from raw logs share."""

from dataclasses import dataclass, field, replace
from typing import Literal

from data_prep.columns.layout import Layout
from data_prep.ids.assignment import Method
from data_prep.ids.vocabulary import RESERVED_IDS


@dataclass(frozen=True)
class ContextOptions:
    """What is kept of evaluation rows beside features and labels, for intervals and for metrics by segment. The columns
    may be features, and need not be. By themselves come the segments day, where rows have a time, and user (known, new:
    whether the cluster has training rows), where there is a cluster."""

    cluster: str = ""
    """Column whose value the rows of a cluster share, such as the user's, which makes them depend on each other; by
    default the layout's, where it names one. A row without a value is a cluster by itself."""
    segments: tuple[str, ...] = ()
    """Columns by whose values evaluation rows are divided: the 64 most frequent of each, and other. By default the
    layout's."""

    def apply(self, layout: Layout) -> Layout:
        """The layout with the columns of these options.

        Raises:
            ValueError: a column is named twice, is of lists, or is none of the layout's.
        """
        return replace(layout, cluster=self.cluster or layout.cluster, segments=self.segments or layout.segments)


@dataclass(frozen=True)
class IdOptions:
    """How categorical values become ids. Ids 0 (missing) and 1 (not in the vocabulary) are reserved in every table."""

    ids: Method = "vocabulary"
    """vocabulary: learnt from the training rows in a pass of its own. hash, modulo: without a pass, of any value."""
    min_count: int = 1
    """vocabulary: occurrences in training rows from which a value has an id of its own."""
    max_ids: int = 0
    """Cap of each table's ids, reserved ones included. vocabulary: the most frequent values are kept, 0 is no cap.
    hash and modulo: the size of the tables."""
    table_max_ids: dict[str, int] = field(default_factory=dict)
    """Caps of single tables, by name, instead: cat_0 40000000 cat_9 1000."""
    multi_hot: dict[str, int] = field(default_factory=dict)
    """Ids per row to which one-hot features are expanded, by name: cat_0 3 cat_20 100."""

    def validate(self, layout: Layout) -> None:
        """Raises ValueError where an option is out of range or names what is not there."""
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
        """Cap of a table's ids: of the command line for this table, of the layout, of the command line for all."""
        return self.table_max_ids.get(table, layout.tables[table][0].max_ids or self.max_ids)


@dataclass(frozen=True)
class WorkOptions:
    """How the work is done."""

    workers: int = 1
    """Processes on this machine."""
    on_bad_row: Literal["stop", "quarantine"] = "stop"
    """stop: end with the first row that cannot be used. quarantine: write such rows and their reasons to
    OUT/quarantine.jsonl, count them, go on."""

    keep_parsed: bool = True
    """Keep what the first of two passes has parsed on disk for the second, which is faster and takes disk space
    in the meantime. Of text logs only."""

    def validate(self) -> None:
        """Raises ValueError where an option is out of range."""
        if self.workers < 1:
            raise ValueError(f"workers {self.workers}: expected at least 1")
