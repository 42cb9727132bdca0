"""The shards that a run began with, and bad shards, as plain data for a run's ``data.json``."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from dlrm_mtl.meaning import Meaning
from dlrm_mtl.quoting import quote
from dlrm_mtl.records import convert


@dataclass(frozen=True)
class BadShard:
    """A shard that cannot be used."""

    split: str
    file: str
    """As schema.json names it."""
    rows: int
    """Rows that it should have, by schema.json."""
    why: str
    """One line with the file, the fault and what was expected."""

    def __str__(self) -> str:
        return f"{self.why}; the {self.rows} rows of this shard of split {self.split!r} are left out"


@dataclass(frozen=True)
class ShardRecord:
    """A shard as it was when the run began. Raises ValueError where it contradicts itself."""

    split: str
    file: str
    rows: int
    bytes: int
    sha256: str
    """Checksum of the file's bytes, once they and all values have been checked; empty before."""
    row_groups: tuple[int, ...]
    """Rows of each row group: they define the order of an epoch, even if they cannot be read any more."""
    mtime_ns: int = 0
    """Time of the file's last change, as of the last check; 0 in records of earlier versions."""

    def __post_init__(self) -> None:
        if sum(self.row_groups) != self.rows:
            raise ValueError(
                f"shard {quote(self.file)}: row groups of {sum(self.row_groups)} rows, expected {self.rows}"
            )


@dataclass(frozen=True)
class DataRecord:
    """The shards that a run began with, so that its continuation can tell whether they have changed."""

    shards: tuple[ShardRecord, ...]
    """In the order of schema.json."""
    bad: tuple[BadShard, ...]
    """Left out from the beginning."""
    meaning: Meaning | None = None
    """The meaning of ids and dense values; None in records of earlier versions."""

    def as_json(self) -> dict[str, Any]:
        record = {"shards": [asdict(shard) for shard in self.shards], "bad": [asdict(shard) for shard in self.bad]}
        return record if self.meaning is None else {**record, "meaning": self.meaning.as_json()}

    @classmethod
    def from_json(cls, value: Any) -> "DataRecord":
        """Reads what :meth:`as_json` gives.

        Raises:
            ValueError: it is anything else.
        """
        if not isinstance(value, Mapping) or value.keys() - {"meaning"} != {"shards", "bad"}:
            raise ValueError("record of the data: expected an object of shards and bad")
        shards = convert(tuple[ShardRecord, ...], value["shards"], "record of the data: shards")
        bad = convert(tuple[BadShard, ...], value["bad"], "record of the data: bad")
        meaning = Meaning.from_json(value["meaning"], "record of the data: meaning") if "meaning" in value else None
        return cls(shards, bad, meaning)

    def updated(self, shards: Iterable[ShardRecord]) -> "DataRecord":
        """The record with new records of some shards."""
        found = {(shard.split, shard.file): shard for shard in shards}
        return replace(self, shards=tuple(found.get((shard.split, shard.file), shard) for shard in self.shards))


def first_of_each(bad: Iterable[BadShard]) -> tuple[BadShard, ...]:
    """Each bad shard once, with its first reason."""
    found: dict[tuple[str, str], BadShard] = {}
    for shard in bad:
        found.setdefault((shard.split, shard.file), shard)
    return tuple(found.values())
