"""What encodes raw rows as rows of a data set: ``encoding.json`` and the vocabularies beside it (docs/data.md)."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Literal

from data_prep.columns.layout import CategoricalColumn, DenseColumn, dense_names, tables_of, uses_of
from data_prep.ids.assignment import Assignment, Given, Hashed, Learnt, Modulo
from data_prep.ids.fingerprints import of_hash, of_modulo
from dlrm_mtl.meaning import DenseFingerprint, Fingerprints, Meaning
from dlrm_mtl.model_schema import CategoricalFeature
from dlrm_mtl.quoting import quote
from dlrm_mtl.schema import Schema


@dataclass(frozen=True)
class EncodedCategorical(CategoricalColumn):
    """A categorical feature: a column of a raw row, and how its values become a list of ids."""

    ids_per_row: int = 0
    """Ids to which a single value is expanded; 0: it is not."""
    newest: int = 0
    """Values at the end of a list that are used; 0: all."""


@dataclass(frozen=True)
class EncodedDense(DenseColumn):
    """A dense feature. Shift, mean and deviation are those of its fingerprint."""

    bits: Literal[32, 64] = 32
    """Precision of the transformation."""


@dataclass(frozen=True)
class TextFields:
    """How the fields of a text log are read; members as in a layout."""

    trim: bool
    missing: tuple[str, ...]


@dataclass(frozen=True)
class ValuesFile:
    """A parquet file with a column ``value``. Raises ValueError for a path outside the directory."""

    file: str
    """Path, relative to the directory of the file that names it."""
    sha256: str

    def __post_init__(self) -> None:
        path = PurePosixPath(self.file)
        if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in self.file:
            raise ValueError(f"file {quote(self.file)}: expected a path inside the directory of encoding.json")


@dataclass(frozen=True)
class Encoding:
    """What encodes raw rows. Raises ValueError where fields contradict each other."""

    rows: Literal["log", "kuairand", "encoded"]
    """log: a raw row has the columns that the features name. kuairand: a row of KuaiRand's log, joined with those of
    its user and video. encoded: a raw row holds ids and dense values."""
    categorical: tuple[EncodedCategorical, ...]
    dense: tuple[EncodedDense, ...]
    fingerprints: Fingerprints
    """Of all tables: vocabulary, hash or remainder. Of all dense features and marks: transformation and scale."""
    text: TextFields | None = None
    """None: raw values have types; there are no texts that stand for missing values."""
    vocabularies: Mapping[str, ValuesFile] = field(default_factory=dict)
    """By table: value number i has id i + 2."""

    def __post_init__(self) -> None:
        for kind, names, expected in (
            ("table", self.fingerprints.tables, self.tables),
            ("dense feature", self.fingerprints.dense, dense_names(self.dense)),
        ):
            if lacking := sorted({*names} ^ {*expected}):
                raise ValueError(f"{kind} {quote(lacking[0])}: expected both a feature and a fingerprint")
        for table, features in self.tables.items():
            if len({feature.kind for feature in features}) > 1:
                raise ValueError(f"features that share table {quote(table)} differ in kind")

    @property
    def tables(self) -> dict[str, tuple[EncodedCategorical, ...]]:
        """The features of each embedding table."""
        return tables_of(self.categorical)

    @property
    def tables_with_vocabulary(self) -> list[str]:
        """The tables whose ids are by a vocabulary."""
        return [table for table in self.tables if self.fingerprints.tables[table].method == "vocabulary"]

    @property
    def uses(self) -> dict[str, str]:
        """How each column is read, see :attr:`Layout.uses`."""
        return uses_of([*self.categorical, *self.dense])

    @property
    def meaning(self) -> Meaning:
        """The meaning of the encoded rows."""
        tables, dense = self.fingerprints.tables, self.fingerprints.dense
        return Meaning(
            features={feature.feature: feature.table_name for feature in self.categorical},
            tables={table: tables[table] for table in self.tables},
            dense={name: dense[name] for name in dense_names(self.dense)},
        )

    @property
    def features(self) -> list[CategoricalFeature]:
        """The categorical features of the encoded rows."""
        return [
            CategoricalFeature(
                feature.feature,
                self.fingerprints.tables[feature.table_name].size,
                multi_hot=feature.multi_hot or feature.ids_per_row > 0,
                table=feature.table_name if feature.table_name != feature.feature else "",
            )
            for feature in self.categorical
        ]

    @property
    def dense_scaling(self) -> dict[str, dict[str, float]]:
        """Mean and deviation of each standardised feature."""
        scales = {
            column.feature: self.fingerprints.dense[column.feature] for column in self.dense if column.standardise
        }
        return {name: {"mean": scale.mean, "deviation": scale.deviation} for name, scale in scales.items()}

    def restricted(self, columns: Collection[str]) -> "Encoding":
        """The features of some columns alone."""
        categorical = tuple(feature for feature in self.categorical if feature.column in columns)
        dense = tuple(column for column in self.dense if column.column in columns)
        known = self.fingerprints
        return replace(
            self,
            categorical=categorical,
            dense=dense,
            fingerprints=Fingerprints(
                {table: known.tables[table] for table in tables_of(categorical)},
                {name: known.dense[name] for name in dense_names(dense)},
            ),
        )

    def assignments(self, read: Callable[[str], Learnt]) -> dict[str, Assignment]:
        """The assignment of ids of each table.

        Args:
            read: gives a vocabulary by its table.

        Raises:
            ValueError: a table's ids are by a function that this version does not have.
        """
        assignments: dict[str, Assignment] = {}
        for table, features in self.tables.items():
            known, kind = self.fingerprints.tables[table], features[0].kind
            if self.rows == "encoded":
                assignments[table] = Given(known.size)
            elif known.method == "vocabulary":
                assignments[table] = read(table)
            elif known == of_hash(kind, known.size):
                assignments[table] = Hashed(known.size)
            elif known == of_modulo(kind, known.size):
                assignments[table] = Modulo(known.size)
            else:
                raise ValueError(f"table {quote(table)} has {known}, which this version cannot compute")
        return assignments


def of_encoded(schema: Schema) -> Encoding:
    """The encoding of a data set whose raw rows hold ids and dense values."""
    categorical = tuple(
        EncodedCategorical(feature.name, "integer", feature.name, feature.multi_hot, table=feature.table_name)
        for feature in schema.categorical
    )
    dense = tuple(EncodedDense(name, name=name, mark_missing=False) for name in schema.dense)
    # A raw value is what the data set holds already, and no transformation of it.
    unknown = dict.fromkeys(schema.dense, DenseFingerprint("unknown"))
    return Encoding("encoded", categorical, dense, Fingerprints(schema.meaning.tables, unknown))
