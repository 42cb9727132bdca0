"""Clusters and segments of evaluation rows, as a data set keeps them beside features and labels."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dlrm_mtl.quoting import quote

MAX_NAME = 200
"""Characters of the name of a segment, a cluster or a value."""

MAX_VALUES = 256
"""Values of a segment: each has metrics of its own."""


@dataclass(frozen=True)
class Segment:
    """A division of the evaluation rows. Raises ValueError for names that are empty, too long, not printable or
    there twice, and for more than 256 values."""

    name: str
    """Name of the segment, in options and reports."""
    values: tuple[str, ...]
    """The values of the codes 0, 1, ... of its column."""

    def __post_init__(self) -> None:
        _check_name("segment", self.name)
        if not 1 <= len(self.values) <= MAX_VALUES:
            raise ValueError(f"segment {quote(self.name)} has {len(self.values)} values, expected 1 to {MAX_VALUES}")
        for value, uses in Counter(self.values).items():
            _check_name(f"segment {quote(self.name)}: value", value)
            if uses > 1:
                raise ValueError(f"segment {quote(self.name)} has value {quote(value)} twice")


def check_context(cluster: str, segments: Sequence[str], columns: Sequence[str]) -> None:
    """Checks the names of a cluster and of segments.

    Args:
        cluster: name of the raw column; empty: none.
        columns: every feature and label.

    Raises:
        ValueError: a name is empty, too long or not printable, a segment is there twice, or a feature or label has the
            name of one of their columns.
    """
    if cluster:
        _check_name("cluster", cluster)
    for name, uses in Counter(segments).items():
        _check_name("segment", name)
        if uses > 1:
            raise ValueError(f"segment {quote(name)} is named twice")
    taken = {cluster_column(cluster)} if cluster else set()
    taken |= {segment_column(name) for name in segments}
    for column in columns:
        if column in taken:
            raise ValueError(f"column {quote(column)} is a feature or a label, and holds the cluster or a segment, too")


def cluster_column(cluster: str) -> str:
    """Column of the shards that holds the keys of a cluster."""
    return f"cluster:{cluster}"


def segment_column(segment: str) -> str:
    """Column of the shards that holds the codes of a segment."""
    return f"segment:{segment}"


def _check_name(kind: str, name: str) -> None:
    if not name or not name.isprintable() or len(name) > MAX_NAME:
        raise ValueError(f"{kind} {quote(name)}: expected 1 to {MAX_NAME} printable characters")
