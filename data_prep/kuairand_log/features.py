"""KuaiRand's features, learnt from training rows in one pass over the log and encoded in a second one.

Features of a user or a video are encoded once per table row, and an impression takes the encoded row; so the first pass
only counts how often each table row occurs.

Notation: B impressions, N rows of a table; row N of an encoded table stands for users or videos that it lacks.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.columns.arrays import NULL, Integers, one_chunk, to_integers
from data_prep.ids.fingerprints import of_mark, of_vocabulary
from data_prep.ids.scaling import Moments, Scaler
from data_prep.ids.vocabulary import Floats, ValueCounter, Vocabulary
from data_prep.kuairand_log.raw_tables import (
    HISTORY_LISTS,
    STRING,
    USER_TYPES,
    VIDEO_TYPES,
    Impressions,
    JoinTable,
)
from dlrm_mtl.meaning import DenseFingerprint, Fingerprints
from dlrm_mtl.schema import CategoricalFeature

USER_CATEGORICAL = tuple(name for name, kind in USER_TYPES.items() if kind == STRING)
USER_DENSE = tuple(name for name, kind in USER_TYPES.items() if kind == pa.float64())
VIDEO_TEXTS = tuple(name for name, kind in VIDEO_TYPES.items() if kind == STRING)
VIDEO_CATEGORICAL = ("author_id", "music_id", *VIDEO_TEXTS)
VIDEO_DENSE = ("server_width", "server_height")
LOG_CATEGORICAL = ("user_id", "video_id", "tab", "hour", "duration_bucket")
LOG_DENSE = ("duration_ms", "video_age_days")


@dataclass
class Tables:
    """The tables that impressions are joined with."""

    users: JoinTable
    videos: JoinTable
    history: JoinTable | None

    def __post_init__(self) -> None:
        upload_day = self.videos.columns["upload_dt"].cast(pa.int32()).cast(pa.int64())
        self.upload_day: Integers = np.append(to_integers(upload_day), NULL)
        """(N + 1,) of the videos."""

    def join(self, impressions: Impressions) -> dict[str, Integers]:
        """Row number in each table, (B,), by the table's name."""
        users, videos = impressions.columns["user_id"], impressions.columns["video_id"]
        rows = {"user": self.users.lookup(users), "video": self.videos.lookup(videos)}
        if self.history is not None:
            rows["history"] = self.history.lookup(users)
        return rows

    def sizes(self) -> dict[str, int]:
        sizes = {"user": len(self.users), "video": len(self.videos)}
        return sizes | {"history": len(self.history)} if self.history is not None else sizes


class Statistics:
    """Counts over training impressions, from which encoders are learnt."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self.table_rows = {name: np.zeros(size + 1, np.int64) for name, size in tables.sizes().items()}
        """How often each row of each table occurs, (N + 1,)."""
        self.values = {name: ValueCounter() for name in LOG_CATEGORICAL}
        self.moments = {name: Moments() for name in LOG_DENSE}

    def add(self, impressions: Impressions) -> None:
        rows = self._tables.join(impressions)
        for name, numbers in rows.items():
            distinct, counts = np.unique(numbers, return_counts=True)
            self.table_rows[name][distinct] += counts
        for name, values in log_categorical(impressions).items():
            self.values[name].add(values)
        for name, measures in log_dense(impressions, self._tables.upload_day[rows["video"]]).items():
            self.moments[name].add(measures)


def log_categorical(impressions: Impressions) -> dict[str, Integers]:
    """Values (B,) of the categorical features of the impression itself."""
    columns = impressions.columns
    hour = np.where(columns["hourmin"] == NULL, NULL, columns["hourmin"] // 100)
    # Two buckets per doubling of the length; the log writes an unknown length as 0 ms.
    seconds = np.maximum(columns["duration_ms"], 1000) / 1000
    bucket = np.where(columns["duration_ms"] <= 0, NULL, np.floor(2 * np.log2(seconds)).astype(np.int64))
    return {
        "user_id": columns["user_id"],
        "video_id": columns["video_id"],
        "tab": columns["tab"],
        "hour": hour,
        "duration_bucket": bucket,
    }


def log_dense(impressions: Impressions, upload_day: Integers) -> dict[str, Floats]:
    """Log-scaled values (B,) of the dense features of the impression itself; NaN where missing."""
    duration = impressions.columns["duration_ms"]
    return {
        "duration_ms": log_scaled(np.where(duration <= 0, np.nan, duration)),
        "video_age_days": log_scaled(np.where(upload_day == NULL, np.nan, impressions.day - upload_day)),
    }


def log_scaled(values: Floats) -> Floats:
    """log(1 + x); a negative count or age counts as 0, NaN stays NaN."""
    return np.asarray(np.log1p(np.maximum(values, 0.0)), np.float64)


class Encoder:
    """Encodes impressions as columns of the data set; learnt from training impressions alone.

    Args:
        statistics: of the training impressions.
        history_length: newest ids kept of each history.
        min_count: a value needs at least so many occurrences in training rows for an id of its own.
    """

    def __init__(self, tables: Tables, statistics: Statistics, history_length: int, min_count: int) -> None:
        self._tables = tables
        self._min_count = min_count
        self._vocabularies = {name: counter.vocabulary(min_count) for name, counter in statistics.values.items()}
        self.scalers = {name: moments.scaler() for name, moments in statistics.moments.items()}
        self._features = [
            CategoricalFeature(name, vocabulary.cardinality) for name, vocabulary in self._vocabularies.items()
        ]
        self._table_fingerprints = {
            name: of_vocabulary(pa.chunked_array([vocabulary.values]))
            for name, vocabulary in self._vocabularies.items()
        }
        self._one_hot: dict[str, tuple[str, npt.NDArray[np.int32]]] = {}
        self._multi_hot: dict[str, tuple[str, pa.ListArray]] = {}
        self._dense: dict[str, tuple[str, Floats]] = {}

        for table, columns, names in (
            ("user", tables.users.columns, USER_CATEGORICAL),
            ("video", tables.videos.columns, VIDEO_CATEGORICAL),
        ):
            for name in names:
                self._add_one_hot(table, name, columns[name], statistics.table_rows[table])
        self._add_tags(tables.videos.columns["tag"], statistics.table_rows["video"])
        for table, columns, names in (
            ("user", tables.users.columns, USER_DENSE),
            ("video", tables.videos.columns, VIDEO_DENSE),
        ):
            for name in names:
                values = np.append(columns[name].to_numpy(zero_copy_only=False).astype(np.float64), np.nan)
                self._add_dense(table, name, values, statistics.table_rows[table])
        if tables.history is not None:
            for name in HISTORY_LISTS:
                self._add_history(name, tables.history.columns[name], history_length, statistics)

    @property
    def features(self) -> list[CategoricalFeature]:
        return list(self._features)

    @property
    def dense(self) -> list[str]:
        """Names of the dense columns: each feature, then the indicators of those with missing values."""
        return [*self.scalers, *(f"{name}_missing" for name, scaler in self.scalers.items() if scaler.has_missing)]

    @property
    def fingerprints(self) -> Fingerprints:
        """The fingerprints of tables and dense features."""
        dense = {
            name: DenseFingerprint("log", 1.0, scaler.mean, scaler.deviation) for name, scaler in self.scalers.items()
        }
        marks = {name: of_mark() for name in self.dense if name not in dense}
        return Fingerprints(self._table_fingerprints, dense | marks)

    def encode(self, impressions: Impressions) -> dict[str, pa.Array]:
        """All feature columns of the impressions."""
        rows = self._tables.join(impressions)
        columns: dict[str, pa.Array] = {}
        for name, values in log_categorical(impressions).items():
            columns[name] = pa.array(self._vocabularies[name].encode(values))
        for name, (table, ids) in self._one_hot.items():
            columns[name] = pa.array(ids[rows[table]])
        for name, (table, lists) in self._multi_hot.items():
            columns[name] = lists.take(pa.array(rows[table]))
        measures = log_dense(impressions, self._tables.upload_day[rows["video"]])
        measures |= {name: values[rows[table]] for name, (table, values) in self._dense.items()}
        for name, scaler in self.scalers.items():
            columns[name] = pa.array(scaler.apply(measures[name]))
            if scaler.has_missing:
                columns[f"{name}_missing"] = pa.array(np.isnan(measures[name]).astype(np.float32))
        return columns

    def _add_one_hot(self, table: str, name: str, column: pa.ChunkedArray, counts: Integers) -> None:
        codes = category_codes(column)
        counter = ValueCounter()
        counter.add(codes, counts)
        vocabulary = counter.vocabulary(self._min_count)
        self._table_fingerprints[name] = of_vocabulary(texts_of_codes(column, vocabulary.values))
        self._features.append(CategoricalFeature(name, vocabulary.cardinality))
        self._one_hot[name] = (table, vocabulary.encode(codes))

    def _add_dense(self, table: str, name: str, values: Floats, counts: Integers) -> None:
        moments = Moments()
        scaled = log_scaled(values)
        moments.add(scaled, counts)
        self.scalers[name] = moments.scaler()
        self._dense[name] = (table, scaled)

    def _add_tags(self, column: pa.ChunkedArray, counts: Integers) -> None:
        tags = one_chunk(pc.split_pattern(pc.fill_null(column, ""), ","))
        lengths = pc.list_value_length(tags).to_numpy()
        texts = pc.utf8_trim_whitespace(tags.flatten())
        codes = category_codes(texts)[:-1]
        # An empty field splits into one empty tag, which does not count.
        is_filled = np.asarray(pc.not_equal(texts, ""))
        owner = np.repeat(np.arange(len(lengths)), lengths)[is_filled]
        counter = ValueCounter()
        counter.add(codes[is_filled], counts[owner])
        vocabulary = counter.vocabulary(self._min_count)
        self._table_fingerprints["tag"] = of_vocabulary(texts_of_codes(texts, vocabulary.values))
        self._features.append(CategoricalFeature("tag", vocabulary.cardinality, multi_hot=True))
        lengths = np.bincount(owner, minlength=len(lengths))
        self._multi_hot["tag"] = ("video", lists_and_an_empty_one(vocabulary.encode(codes[is_filled]), lengths))

    def _add_history(self, name: str, column: pa.ChunkedArray, length: int, statistics: Statistics) -> None:
        videos: Vocabulary = self._vocabularies["video_id"]
        self._features.append(CategoricalFeature(name, videos.cardinality, multi_hot=True, table="video_id"))
        lists = one_chunk(column)
        lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
        # A user without a history has watched nothing: length 0, not a missing value.
        self._add_dense(
            "history", f"{name}_length", np.append(lengths, 0).astype(np.float64), statistics.table_rows["history"]
        )
        # Histories are sorted by age, so the newest ids are the last ones.
        behind = np.repeat(np.cumsum(lengths), lengths) - np.arange(lengths.sum()) - 1
        newest = to_integers(lists.flatten())[behind < length]
        self._multi_hot[name] = (
            "history",
            lists_and_an_empty_one(videos.encode(newest), np.minimum(lengths, length)),
        )


def category_codes(column: "pa.Array | pa.ChunkedArray") -> Integers:
    """Codes (N + 1,) of a column's values, the last one for rows that the table lacks: numbers as they are, distinct
    strings numbered; ``NULL`` where null."""
    values = _categories(column)
    if pa.types.is_dictionary(values.type):
        values = values.indices
    return np.append(to_integers(values.cast(pa.int64())), NULL)


def texts_of_codes(column: "pa.Array | pa.ChunkedArray", codes: Integers) -> pa.ChunkedArray:
    """The values (K,) behind codes of a column, none of them ``NULL``: texts, or the codes themselves."""
    values = _categories(column)
    column = pa.array(codes)
    if pa.types.is_dictionary(values.type):
        column = values.dictionary.take(column)
    return pa.chunked_array([column])


def _categories(column: "pa.Array | pa.ChunkedArray") -> pa.Array:
    values = one_chunk(column)
    return values.dictionary_encode() if pa.types.is_string(values.type) else values


def lists_and_an_empty_one(ids: npt.NDArray[np.int32], lengths: Integers) -> pa.ListArray:
    """N + 1 lists: N of the given lengths (N,), and an empty one."""
    offsets = np.concatenate([[0], np.cumsum(lengths), [lengths.sum()]]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids))


def scaling(scalers: dict[str, Scaler]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation of log(1 + x) of each dense feature, to encode further data in the same way."""
    return {name: {"mean": scaler.mean, "deviation": scaler.deviation} for name, scaler in scalers.items()}
