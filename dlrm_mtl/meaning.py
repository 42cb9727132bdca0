"""The meaning of ids and dense values. A data set states it, a checkpoint keeps it, and whatever loads a checkpoint
compares the two; otherwise weights for other ids would load without an error and predict nonsense."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import zip_longest
from typing import Any, Literal, TypeVar

from dlrm_mtl.quoting import quote, shorten
from dlrm_mtl.records import build

UNSEEN_ID = 1
"""The id of a value that a vocabulary does not have."""

SHOWN_DIGITS = 16
"""Digits of a checksum that messages show."""

SHOWN_FUNCTION = 80
"""Characters of a function's name that messages show."""

REUSE = "prepare the data with --encoding DIR, where DIR is the data set of the model's training"
EXTEND = "prepare the data with --extend DIR, where DIR is the data set of the model's training"


@dataclass(frozen=True)
class TableFingerprint:
    """The meaning of the ids of a table: with equal fingerprints, a value has the same id. Raises ValueError where the
    fields contradict each other."""

    method: Literal["vocabulary", "hash", "modulo", "generated", "unknown"]
    """How a value gets its id; unknown: not stated by the data set."""
    size: int
    """Number of ids, reserved ones included: the rows of the table."""
    function: str = ""
    """hash, modulo, generated: the function from a value to its id."""
    seed: int = 0
    """Seed of that function."""
    sha256: str = ""
    """vocabulary: checksum, in hexadecimal digits, of the values in the order of their ids: first the byte lengths of
    their UTF-8 texts as 32-bit little-endian numbers, then the texts. A vocabulary that only grew has the old checksum
    up to the old vocabulary's last value."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size {self.size}, expected at least 1")
        is_sha256 = len(self.sha256) == 64 and set(self.sha256) <= set("0123456789abcdef")
        if self.method == "vocabulary" and not is_sha256:
            raise ValueError(f"sha256 {quote(self.sha256)}, expected 64 hexadecimal digits")

    def __str__(self) -> str:
        if self.method == "unknown":
            return f"{self.size} ids of unknown meaning"
        if self.method == "vocabulary":
            return f"a vocabulary of {self.size} ids with sha256 {self.sha256[:SHOWN_DIGITS]}"
        return f"{self.size} ids by {self.method} ({shorten(self.function, SHOWN_FUNCTION)}, seed {self.seed})"

    @property
    def is_unknown(self) -> bool:
        return self.method == "unknown"

    @property
    def how_to_repeat(self) -> str:
        """How other data get the same ids."""
        if self.method == "vocabulary":
            return REUSE
        if self.method == "generated":
            return f"generate the data with --seed {self.seed} and the same options"
        if self.method == "unknown":
            return "prepare the data as those were prepared"
        return f"{REUSE}, or with --ids {self.method}, {self.size} ids in this table, of columns of the same kind"

    def differs(self, other: "TableFingerprint") -> bool:
        """Whether the ids are known to differ in meaning."""
        return self.size != other.size or (self != other and not self.is_unknown and not other.is_unknown)


@dataclass(frozen=True)
class DenseFingerprint:
    """How a value x of the log becomes a dense value: (transform(x) - mean) / deviation."""

    transform: Literal["none", "log", "missing", "unknown"]
    """log: log(x + shift), where x below 1 - shift counts as 1 - shift. missing: 1 where the value is missing,
    otherwise 0. unknown: the data set does not say."""
    shift: float = 0.0
    mean: float = 0.0
    deviation: float = 1.0
    missing: float = 0.0
    """The dense value of a missing one."""

    def __str__(self) -> str:
        if self.transform == "unknown":
            return "of unknown transformation"
        if self.transform == "missing":
            return "1 where a value is missing"
        value = f"log(x + {self.shift!r})" if self.transform == "log" else "x"
        return f"({value} - {self.mean!r}) / {self.deviation!r}, {self.missing!r} where missing"

    @property
    def is_unknown(self) -> bool:
        return self.transform == "unknown"

    @property
    def how_to_repeat(self) -> str:
        """How other data get the same values."""
        return REUSE

    def differs(self, other: "DenseFingerprint") -> bool:
        """Whether the values are known to differ in meaning."""
        return self != other and not self.is_unknown and not other.is_unknown


Fingerprint = TypeVar("Fingerprint", TableFingerprint, DenseFingerprint)


@dataclass(frozen=True)
class Fingerprints:
    """The fingerprints of a data set's tables and dense features."""

    tables: Mapping[str, TableFingerprint] = field(default_factory=dict)
    """By embedding table."""
    dense: Mapping[str, DenseFingerprint] = field(default_factory=dict)
    """By dense feature."""


@dataclass(frozen=True)
class Meaning:
    """The meaning of a model's inputs."""

    features: Mapping[str, str]
    """The embedding table of each categorical feature, in the order in which the model takes them."""
    tables: Mapping[str, TableFingerprint]
    dense: Mapping[str, DenseFingerprint]
    """In the order in which the model takes them."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any, where: str) -> "Meaning":
        """Reads what :meth:`as_json` gives.

        Raises:
            ValueError: it is anything else; the message begins with ``where``.
        """
        return build(cls, value, where)


@dataclass(frozen=True)
class Difference:
    """A table or feature whose meaning has changed."""

    what: str
    """The table or feature, in words."""
    before: str
    now: str
    remedy: str
    """How to prepare data with the same meaning."""


def find_difference(
    before: Meaning, now: Meaning, continued: Mapping[str, TableFingerprint] | None = None
) -> Difference | None:
    """The first table or feature that is known to have another meaning than before, or whose weights another feature
    would get; None: there is none.

    Args:
        continued: by table, what it continues: a table that did not differ from that has the same meaning, but for ids
            that begin anew. Empty: the data set could continue another one. None: it could not.
    """
    return next(_differences(before, now, continued), None)


def without_fingerprint(meaning: Meaning) -> list[str]:
    """The tables and dense features, in words, whose meaning is unknown."""
    tables = [f"table {quote(name)}" for name, table in meaning.tables.items() if table.is_unknown]
    return tables + [f"dense feature {quote(name)}" for name, value in meaning.dense.items() if value.is_unknown]


def _differences(
    before: Meaning, now: Meaning, continued: Mapping[str, TableFingerprint] | None
) -> Iterator[Difference]:
    for difference, name in _compare("table", before.tables, now.tables):
        fingerprint = before.tables[name]
        if not continued or name not in continued or fingerprint.differs(continued[name]):
            may_extend = continued is not None and fingerprint.method == "vocabulary"
            yield replace(difference, remedy=EXTEND) if may_extend else difference
    yield from (difference for difference, _ in _compare("dense feature", before.dense, now.dense))
    tables_before, tables_now = (
        [f"{quote(name)} of table {quote(table)}" for name, table in some.features.items()] for some in (before, now)
    )
    yield from _compare_order("categorical feature", tables_before, tables_now)
    yield from _compare_order("dense feature", list(map(quote, before.dense)), list(map(quote, now.dense)))


def _compare(
    kind: str, before: Mapping[str, Fingerprint], now: Mapping[str, Fingerprint]
) -> Iterator[tuple[Difference, str]]:
    """Differences, and the names of what differs."""
    for name, fingerprint in before.items():
        if name in now and fingerprint.differs(now[name]):
            what = f"{kind} {quote(name)}"
            yield Difference(what, str(fingerprint), str(now[name]), fingerprint.how_to_repeat), name


def _compare_order(kind: str, before: Sequence[str], now: Sequence[str]) -> Iterator[Difference]:
    """Weights belong to the position of a feature among the others."""
    for number, (old, new) in enumerate(zip_longest(before, now, fillvalue="none"), start=1):
        if old != new:
            remedy = "prepare the data with the same features in the same order"
            yield Difference(f"{kind} number {number}", old, new, remedy)
