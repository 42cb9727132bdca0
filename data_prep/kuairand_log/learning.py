"""KuaiRand's encoding, learnt from training impressions in one pass over the log.

Features of a user or a video are the same in all of its impressions, so the pass only counts how often each table row
occurs.
"""

from typing import Literal

import numpy as np
import pyarrow as pa

from data_prep.columns.arrays import NULL, Integers, to_integers
from data_prep.columns.layout import Kind
from data_prep.columns.raw_columns import values_of
from data_prep.encoding.encoder import measured
from data_prep.encoding.encoding import EncodedCategorical, EncodedDense, Encoding, TextFields
from data_prep.encoding.extending import Growth
from data_prep.encoding.kuairand import (
    HISTORY_LISTS,
    LOG_CATEGORICAL,
    LOG_DENSE,
    USER_DENSE,
    USER_TEXTS,
    VIDEO_CATEGORICAL,
    VIDEO_DENSE,
)
from data_prep.ids.assignment import most_frequent
from data_prep.ids.fingerprints import of_dense, of_mark, of_vocabulary
from data_prep.ids.multi_hot import last_of
from data_prep.ids.scaling import Moments
from data_prep.ids.vocabulary import RESERVED_IDS, ValueCounter
from data_prep.kuairand_log.features import Tables
from data_prep.kuairand_log.raw_tables import Impressions
from dlrm_mtl.meaning import Fingerprints

TABLE_CATEGORICAL = {**dict.fromkeys(USER_TEXTS, "user"), **dict.fromkeys((*VIDEO_CATEGORICAL, "tag"), "video")}
"""The table of each of its categorical features."""

TABLE_DENSE = {**dict.fromkeys(USER_DENSE, "user"), **dict.fromkeys(VIDEO_DENSE, "video")}

VIDEOS = "video_id"
"""Table of the ids of videos, which histories share."""

ALL = Growth(1, {})

BITS: Literal[64] = 64


class Statistics:
    """Counts over training impressions, from which the encoding is learnt."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._table_rows = {name: np.zeros(len(columns), np.int64) for name, columns in tables.columns.items()}
        """How often each row of each table occurs."""
        self._values = {name: ValueCounter() for name in LOG_CATEGORICAL}
        self._moments = {name: Moments() for name in LOG_DENSE}

    def add(self, impressions: Impressions) -> None:
        rows = self._tables.join(impressions)
        for name, numbers in rows.items():
            distinct, counts = np.unique(numbers, return_counts=True)
            self._table_rows[name][distinct] += counts
        columns = self._tables.log_columns(impressions, rows["video"])
        for name, counter in self._values.items():
            counter.add(to_integers(columns[name]))
        for name, moments in self._moments.items():
            moments.add(measured(columns, dense_feature(name), BITS))

    def watched(self, history_length: int) -> Integers:
        """The distinct videos (N,) in the histories of the impressions."""
        videos = [np.empty(0, np.int64)]
        for feature in categorical_features(history_length):
            if feature.column in HISTORY_LISTS:
                values, lengths = values_of(self._tables.columns["history"], feature)
                assert lengths is not None  # they are lists
                values, lengths = last_of(values, lengths, history_length)
                videos.append(to_integers(values)[np.repeat(self._table_rows["history"] > 0, lengths)])
        distinct = np.unique(np.concatenate(videos))
        return distinct[distinct != NULL]

    def learn(self, history_length: int, growth: Growth = ALL) -> tuple[Encoding, dict[str, pa.Table]]:
        """The encoding, and the vocabulary of each table: columns ``value`` and ``count``, in the order of the ids.

        Args:
            history_length: newest ids kept of each history.
            growth: which values have an id of their own; by default all.
        """
        columns = self._tables.columns
        has_history = "history" in columns
        vocabularies = {}
        for name, counter in self._values.items():
            known = counter.vocabulary(growth.min_count)
            vocabularies[name] = _vocabulary(pa.array(known.values), known.counts)
        categorical = categorical_features(history_length if has_history else 0)
        for feature in categorical:
            if (name := feature.column) in TABLE_CATEGORICAL:
                table = TABLE_CATEGORICAL[name]
                values, lengths = values_of(columns[table], feature)
                counts = self._table_rows[table]
                vocabularies[name] = _learn(
                    values, counts if lengths is None else np.repeat(counts, lengths), growth.min_count
                )
        for name, vocabulary in vocabularies.items():
            if (cap := growth.capacities.get(name, 0)) and len(vocabulary) > cap - RESERVED_IDS:
                kept = most_frequent(np.asarray(vocabulary["count"]), cap - RESERVED_IDS)
                vocabularies[name] = vocabulary.take(pa.array(kept))
        moments = dict(self._moments)
        for name in dense_names_of(has_history)[len(LOG_DENSE) :]:
            table = TABLE_DENSE.get(name, "history")
            moments[name] = Moments()
            moments[name].add(measured(columns[table], dense_feature(name), BITS), self._table_rows[table])
        scalers = {name: of_feature.scaler() for name, of_feature in moments.items()}
        dense = tuple(dense_feature(name, scaler.has_missing) for name, scaler in scalers.items())
        fingerprints = Fingerprints(
            {name: of_vocabulary(vocabulary["value"]) for name, vocabulary in vocabularies.items()},
            {
                **{column.name: of_dense(column, *scalers[column.name].scale) for column in dense},
                **{column.mark: of_mark() for column in dense if column.mark_missing},
            },
        )
        return Encoding("kuairand", tuple(categorical), dense, fingerprints, TextFields(False, ("",))), vocabularies


def categorical_features(history_length: int) -> list[EncodedCategorical]:
    """The categorical features of a KuaiRand with histories, or without (``history_length`` 0)."""
    features = [EncodedCategorical(name, "integer") for name in LOG_CATEGORICAL]
    for name in TABLE_CATEGORICAL:
        kind: Kind = "integer" if name in ("author_id", "music_id") else "string"
        features.append(EncodedCategorical(name, kind, multi_hot=name == "tag"))
    features += [
        EncodedCategorical(name, "integer", multi_hot=True, table=VIDEOS, newest=history_length)
        for name in HISTORY_LISTS
        if history_length
    ]
    return features


def dense_names_of(has_history: bool) -> list[str]:
    """Names of the dense features of a KuaiRand, without the marks of missing values."""
    return [*LOG_DENSE, *TABLE_DENSE, *(f"{name}_length" for name in HISTORY_LISTS if has_history)]


def dense_feature(name: str, mark_missing: bool = False) -> EncodedDense:
    """A dense feature by its name."""
    kind: Literal["integer", "number"] = "number" if name in TABLE_DENSE else "integer"
    return EncodedDense(name, kind, name, "log", standardise=True, mark_missing=mark_missing, bits=BITS)


def _learn(values: pa.Array, counts: Integers, min_count: int) -> pa.Table:
    """The vocabulary of values that occur so often: integers ascending, texts in the order of their first row."""
    encoded = values.dictionary_encode() if pa.types.is_string(values.type) else None
    counter = ValueCounter()
    counter.add(to_integers(values if encoded is None else encoded.indices.cast(pa.int64())), counts)
    known = counter.vocabulary(min_count)
    codes = pa.array(known.values)
    return _vocabulary(codes if encoded is None else encoded.dictionary.take(codes), known.counts)


def _vocabulary(values: pa.Array, counts: Integers) -> pa.Table:
    return pa.table({"value": values, "count": pa.array(counts)})
