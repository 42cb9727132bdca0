"""Shards as plain data: what a run began with, and which of them are bad. Kept in a run's ``data.json``."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from dlrm_mtl.meaning import Meaning

Record = TypeVar("Record")


@dataclass(frozen=True)
class BadShard:
    """A shard that cannot be used."""

    split: str
    file: str
    """As schema.json names it."""
    rows: int
    """Rows that it should have, by schema.json."""
    why: str
    """One line that names the file, what was found and what was expected."""

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
    """Of the file's bytes."""
    row_groups: Sequence[int]
    """Rows of each row group: the order of an epoch is made of row groups, also those that cannot be read any more."""

    def __post_init__(self) -> None:
        if sum(self.row_groups) != self.rows:
            raise ValueError(f"shard {self.file!r}: row groups of {sum(self.row_groups)} rows, expected {self.rows}")


@dataclass(frozen=True)
class DataRecord:
    """What a run read at its start, so that a later one can tell whether the data are still the same."""

    shards: tuple[ShardRecord, ...]
    """In the order of schema.json."""
    bad: tuple[BadShard, ...]
    """Left out from the beginning."""
    meaning: Meaning | None = None
    """What ids and dense values stood for; None in a record from before that was kept."""

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
        named = {"split": str, "file": str, "rows": int}
        shards = _read(
            ShardRecord, {**named, "bytes": int, "sha256": str, "row_groups": list}, value["shards"], "shards"
        )
        bad = _read(BadShard, {**named, "why": str}, value["bad"], "bad")
        meaning = Meaning.from_json(value["meaning"], "record of the data: meaning") if "meaning" in value else None
        return cls(shards, bad, meaning)


def first_of_each(bad: Iterable[BadShard]) -> tuple[BadShard, ...]:
    """Each shard once, with the first reason."""
    found: dict[tuple[str, str], BadShard] = {}
    for shard in bad:
        found.setdefault((shard.split, shard.file), shard)
    return tuple(found.values())


def _read(kind: Callable[..., Record], types: Mapping[str, type], values: Any, where: str) -> tuple[Record, ...]:
    if not isinstance(values, list):
        raise ValueError(f"record of the data: {where} is {values!r}, expected a list")
    records = []
    for index, entry in enumerate(values):
        if not isinstance(entry, dict) or {name: type(value) for name, value in entry.items()} != types:
            expected = ", ".join(f"{name}: {kind.__name__}" for name, kind in types.items())
            raise ValueError(f"record of the data: {where}[{index}] is {entry!r}, expected {expected}")
        records.append(kind(**entry))
    return tuple(records)
