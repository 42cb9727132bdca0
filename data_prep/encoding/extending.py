"""Data sets of a chain: each extends the encoding of the one before by the counts of a further period.

The values of a table that wait for an id lie beside its vocabulary, in ``waiting/``.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from data_prep.columns.arrays import Integers, one_chunk
from data_prep.encoding.encoding import Encoding
from data_prep.encoding.files import find_vocabulary
from data_prep.encoding.reuse import ReusedEncoding, read_reused
from data_prep.ids.counting import Span
from data_prep.ids.extension import CountedValues, NewIds, extend_vocabulary, read_counted
from data_prep.ids.fingerprints import of_vocabulary
from data_prep.ids.vocabulary import RESERVED_IDS, UNSEEN_ID
from dlrm_mtl.continuation import Period
from dlrm_mtl.file_names import file_names
from dlrm_mtl.files import sha256
from dlrm_mtl.location import Location
from dlrm_mtl.meaning import Fingerprints
from dlrm_mtl.quoting import quote
from dlrm_mtl.schema import STREAM, read_schema
from dlrm_mtl.storage.parquet import read_table

CLUSTERS = "clusters.parquet"
"""File, in a data set of a chain, with the keys of all clusters so far, ascending (column ``value``)."""


@dataclass(frozen=True)
class Growth:
    """How tables take up new values."""

    min_count: int
    """Count from which on a value gets an id."""
    capacities: Mapping[str, int]
    """By table, the maximum number of its ids; 0: none."""


@dataclass(frozen=True)
class Previous:
    """A data set that is extended."""

    reused: ReusedEncoding
    period: Period | None
    number: int
    """In its chain, from 0."""
    growth: Growth
    counts: Mapping[str, int]
    """By table, values that wait for an id."""
    cluster: str
    """Its cluster; empty: none."""
    sha256: str
    """Of its schema."""

    def vocabulary(self, table: str) -> CountedValues:
        """In the order of the ids. Raises ValueError where it is missing or has changed."""
        encoding, directory = self.reused.encoding, self.reused.directory
        return read_counted(find_vocabulary(encoding, directory, table), encoding.tables[table][0].kind)

    def waiting(self, table: str) -> CountedValues:
        """Values without an id, ascending by key. Raises ValueError where they are not as many as the schema says."""
        encoding, directory = self.reused.encoding, self.reused.directory
        path = directory / waiting_files(encoding)[table]
        kind = encoding.tables[table][0].kind
        values = read_counted(path, kind) if path.is_file() else CountedValues.none(kind)
        if len(values) != self.counts.get(table, 0):
            raise ValueError(f"{path}: {len(values)} values, expected {self.counts.get(table, 0)} that wait for an id")
        return values

    def clusters(self) -> Integers:
        """Keys of the clusters (N,) so far, ascending. Raises ValueError where the file is missing."""
        path = self.reused.directory / CLUSTERS
        if not self.cluster:
            return np.empty(0, np.int64)
        if not path.is_file():
            raise ValueError(f"{path}: not found, the clusters of the data sets so far")
        return one_chunk(read_table(path, ["value"])["value"]).to_numpy()

    def check_cluster(self, cluster: str) -> None:
        """Raises ValueError where rows have another cluster."""
        if cluster != self.cluster:
            raise ValueError(f"cluster {quote(cluster)}: expected {quote(self.cluster)}, as in {self.reused.directory}")


@dataclass(frozen=True)
class Extended:
    """The encoding of a data set of a chain."""

    encoding: Encoding
    number: int
    """Of the data set in the chain, from 0."""
    growth: Growth
    previous: Previous | None
    vocabularies: Mapping[str, CountedValues]
    """By table, in the order of the ids."""
    waiting: Mapping[str, CountedValues]
    """By table, values without an id."""
    reset: Mapping[str, Integers]
    """By table, ids that had another value before, ascending."""

    @property
    def vocabulary_tables(self) -> dict[str, pa.Table]:
        """Columns ``value``, ``count`` and ``last_seen`` of each vocabulary."""
        return {table: values.table() for table, values in self.vocabularies.items()}

    @property
    def new_ids(self) -> dict[str, NewIds]:
        """By table, the ids that begin anew; empty where the data set begins a chain."""
        before = {} if self.previous is None else self.previous.reused.encoding.fingerprints.tables
        return {table: NewIds(ids, before[table].size) for table, ids in self.reset.items() if table in before}

    def for_next(self, clusters: Integers | None = None) -> dict[str, pa.Table]:
        """What the data set that extends this one needs, by its files: values that wait, and the clusters so far.

        Args:
            clusters: keys, ascending; None: there are none.
        """
        files = waiting_files(self.encoding)
        tables = {files[table]: values.table() for table, values in self.waiting.items() if len(values)}
        return tables if clusters is None else {**tables, CLUSTERS: pa.table({"value": clusters})}

    def as_record(self) -> dict[str, Any]:
        """The entry ``chain`` of the schema's source."""
        waiting = {table: len(values) for table, values in self.waiting.items()}
        reset = {table: len(ids) for table, ids in self.reset.items()}
        return chain_record(self.previous, self.growth, self.encoding, reset, waiting)


class UnseenBefore:
    """By feature, the share of the ids that the data set before has not: what a model reads as unseen when it is
    evaluated on the rows."""

    def __init__(self, extended: Extended) -> None:
        self._features = extended.encoding.features
        self._new_ids = extended.new_ids
        self._unseen: Counter[str] = Counter()
        self._ids: Counter[str] = Counter()

    def add(self, columns: Mapping[str, pa.Array]) -> None:
        """Adds the encoded columns (B,) of rows."""
        for feature in self._features:
            if new_ids := self._new_ids.get(feature.table_name):
                column = columns[feature.name]
                ids = np.asarray(column.flatten() if feature.multi_hot else column)
                self._unseen[feature.name] += new_ids.count(ids) + int(np.count_nonzero(ids == UNSEEN_ID))
                self._ids[feature.name] += len(ids)

    def shares(self) -> dict[str, float]:
        """The entry ``unseen_before`` of the schema's source."""
        return {name: self._unseen[name] / max(number, 1) for name, number in self._ids.items()}


def chain_record(
    previous: Previous | None,
    growth: Growth,
    encoding: Encoding,
    reset: Mapping[str, int],
    waiting: Mapping[str, int],
) -> dict[str, Any]:
    """The entry ``chain`` of the schema's source.

    Args:
        previous: data set before; None: there is none.
        encoding: of the data set.
        reset, waiting: by table, ids that had another value before, and values without an id.
    """
    before = {} if previous is None else previous.reused.encoding.fingerprints.tables
    appended = {
        table: encoding.fingerprints.tables[table].size - (before[table].size if table in before else RESERVED_IDS)
        for table in encoding.tables_with_vocabulary
    }
    # The name of its folder alone: a chain may be moved, and is the same wherever it is.
    extends = previous and {**previous.reused.as_record(), "directory": previous.reused.directory.name}
    return {
        "number": 0 if previous is None else previous.number + 1,
        "min_count": growth.min_count,
        "capacities": dict(growth.capacities),
        "extends": extends,
        "appended": appended,
        "reset": dict(reset),
        "waiting": dict(waiting),
    }


def waiting_files(encoding: Encoding) -> dict[str, str]:
    """Where the values that wait for an id are in a data set, by table."""
    return {table: f"waiting/{name}.parquet" for table, name in file_names(encoding.tables_with_vocabulary).items()}


def read_previous(directory: Location, rows: Literal["log", "kuairand"], out: Location) -> Previous:
    """The data set that another one extends. Arguments as for :func:`read_reused`.

    Raises:
        ValueError: as there, or it is none of a chain.
    """
    reused = read_reused(directory, rows, out)
    schema = read_schema(directory)
    chain = schema.source.get("chain")
    if STREAM not in schema.splits or not isinstance(chain, dict):
        raise ValueError(
            f"{directory}: has the splits {', '.join(schema.splits)}, expected a data set of a period; --stream True"
            " prepares the first one"
        )
    growth = Growth(chain["min_count"], chain["capacities"])
    checksum = sha256(directory / "schema.json")
    return Previous(reused, schema.period, chain["number"], growth, chain["waiting"], schema.cluster, checksum)


def begin_chain(encoding: Encoding, spans: Mapping[str, Span], growth: Growth) -> Extended:
    """The encoding of the first data set of a chain.

    Args:
        encoding: its vocabularies are replaced.
        spans: by table, the counts of the period.
    """
    nothing = {
        table: (CountedValues.none(kind), CountedValues.none(kind))
        for table in encoding.tables_with_vocabulary
        for kind in [encoding.tables[table][0].kind]
    }
    return _extended(encoding, nothing, spans, growth, None)


def extend_chain(previous: Previous, spans: Mapping[str, Span]) -> Extended:
    """The encoding of the data set after another one; arguments as for :func:`begin_chain`.

    Raises:
        ValueError: a vocabulary is missing or has changed, or two strings have the same 64-bit hash.
    """
    encoding = previous.reused.encoding
    before = {table: (previous.vocabulary(table), previous.waiting(table)) for table in encoding.tables_with_vocabulary}
    return _extended(encoding, before, spans, previous.growth, previous)


def _extended(
    encoding: Encoding,
    before: Mapping[str, tuple[CountedValues, CountedValues]],
    spans: Mapping[str, Span],
    growth: Growth,
    previous: Previous | None,
) -> Extended:
    number = 0 if previous is None else previous.number + 1
    extensions = {
        table: extend_vocabulary(
            vocabulary,
            waiting,
            [spans[table]],
            encoding.tables[table][0].kind,
            growth.min_count,
            growth.capacities.get(table, 0),
            number,
            table,
        )
        for table, (vocabulary, waiting) in before.items()
    }
    vocabularies = {table: extension.vocabulary for table, extension in extensions.items()}
    tables = {table: of_vocabulary(values.values) for table, values in vocabularies.items()}
    known = encoding.fingerprints
    return Extended(
        replace(encoding, fingerprints=Fingerprints({**known.tables, **tables}, known.dense), vocabularies={}),
        number,
        growth,
        previous,
        vocabularies,
        {table: extension.waiting for table, extension in extensions.items()},
        {table: extension.reset for table, extension in extensions.items()},
    )
