"""Keys to ids: by a vocabulary learnt from training rows, by a hash, or modulo the table's size.

Every table reserves ``MISSING_ID`` (no value) and ``UNSEEN_ID`` (outside the vocabulary).
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.columns.arrays import numbers
from data_prep.columns.layout import CategoricalColumn, Kind
from data_prep.ids.counting import Span
from data_prep.ids.keys import Keys, key_type, keys_of_values, values_of_keys
from data_prep.ids.vocabulary import MISSING_ID, RESERVED_IDS, UNSEEN_ID, Ids
from dlrm_mtl.files import write_whole
from dlrm_mtl.location import Location
from dlrm_mtl.mixing import mix
from dlrm_mtl.storage.parquet import read_table

FEW_KEYS = 256
"""Fewer keys are looked up one by one."""

Method = Literal["vocabulary", "hash", "modulo"]


class Assignment(Protocol):
    """Maps keys to ids."""

    @property
    def cardinality(self) -> int:
        """Ids are below this: the rows of the embedding table."""

    def ids(self, keys: Keys) -> Ids:
        """Ids (N,) of keys (N,)."""


class Hashed:
    """``RESERVED_IDS`` + a hash of the key, in [0, cardinality - RESERVED_IDS)."""

    def __init__(self, cardinality: int) -> None:
        self.cardinality = cardinality

    def ids(self, keys: Keys) -> Ids:
        hashed = keys
        if hashed.dtype == np.uint32:
            # The finaliser of MurmurHash3 (Appleby): on 32 bits, half the work of 64.
            hashed = (hashed ^ (hashed >> np.uint32(16))) * np.uint32(0x85EBCA6B)
            hashed = (hashed ^ (hashed >> np.uint32(13))) * np.uint32(0xC2B2AE35)
            hashed ^= hashed >> np.uint32(16)
        else:
            hashed = mix(keys.astype(np.uint64, copy=False)) >> np.uint64(32)
        # A multiplication maps 32 bits to the range as evenly as a remainder does, and faster (Lemire 2019).
        scaled = hashed.astype(np.uint64) * np.uint64(self.cardinality - RESERVED_IDS)
        return (scaled >> np.uint64(32)).astype(np.int32) + RESERVED_IDS


class Modulo:
    """``RESERVED_IDS`` + key mod (cardinality - RESERVED_IDS), as DLRM's own preprocessing does it."""

    def __init__(self, cardinality: int) -> None:
        self.cardinality = cardinality

    def ids(self, keys: Keys) -> Ids:
        divisor = keys.dtype.type(self.cardinality - RESERVED_IDS)
        return (keys % divisor).astype(np.int32) + RESERVED_IDS


class Given:
    """Keys that are ids already."""

    def __init__(self, cardinality: int) -> None:
        self.cardinality = cardinality

    def ids(self, keys: Keys) -> Ids:
        return keys.view(np.int64)


class Learnt:
    """Positions in a vocabulary, after the reserved ids.

    Args:
        keys: ascending and distinct.
        places: (len(keys),) place of each key in the vocabulary; by default the keys have its order.
    """

    def __init__(self, keys: Keys, places: npt.NDArray[np.int64] | None = None) -> None:
        self._keys = keys
        self._places = places
        self.cardinality = len(keys) + RESERVED_IDS

    def ids(self, keys: Keys) -> Ids:
        if not len(self._keys):
            return np.full(len(keys), UNSEEN_ID, np.int32)
        if len(keys) < FEW_KEYS:
            return self._find(keys)
        # Few values make up most of a batch, so each distinct one is looked up once.
        encoded = pa.array(keys).dictionary_encode()
        return self._find(numbers(encoded.dictionary, keys.dtype.type))[numbers(encoded.indices, np.int32)]

    def _find(self, keys: Keys) -> Ids:
        position = np.minimum(self._keys.searchsorted(keys), len(self._keys) - 1)
        is_known = self._keys[position] == keys
        place = position if self._places is None else self._places[position]
        return np.where(is_known, place + RESERVED_IDS, UNSEEN_ID).astype(np.int32)

    def write(self, keys_file: Path) -> list[Path]:
        """Writes the keys (.npy), and their places beside them where there are any; returns the files."""
        arrays: dict[Path, npt.NDArray[Any]] = {keys_file: self._keys}
        if self._places is not None:
            arrays[_places_file(keys_file)] = self._places
        for path, array in arrays.items():
            with write_whole(path) as temporary, temporary.open("wb") as file:
                np.save(file, array, allow_pickle=False)
        return list(arrays)


def with_missing(ids: Ids, missing: np.ndarray | None) -> Ids:
    """Ids with ``MISSING_ID`` where a value is missing; changes them in place."""
    if missing is not None:
        ids[missing] = MISSING_ID
    return ids


def write_vocabulary(vocabulary: pa.Table, path: Path) -> None:
    """Writes the columns ``value`` and ``count`` of a vocabulary (.parquet). Value number i has id i + 2."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path) as temporary:
        pq.write_table(vocabulary, temporary, compression="zstd")


def write_counted(
    spans: Iterable[Span], feature: CategoricalColumn, min_count: int, max_ids: int, keys_file: Path
) -> Path:
    """Writes the vocabulary of a table: the keys that occur at least ``min_count`` times. With a cap, the most frequent
    of them, of equally frequent ones the smaller key.

    The keys go to ``keys_file`` (.npy, ascending); the values as they stand in the log, with their counts, go to a
    .parquet file beside it.
    """
    kind = key_type(feature.kind)
    keys, counts, texts = [np.empty(0, kind)], [np.empty(0, np.int64)], [pa.array([], pa.string())]
    for span in spans:
        frequent = span.counts >= min_count
        keys.append(span.keys[frequent].astype(kind))
        counts.append(span.counts[frequent])
        texts.append(span.values.filter(pa.array(frequent)))
    all_keys, all_counts = np.concatenate(keys), np.concatenate(counts)
    all_texts = pa.chunked_array(texts)
    if max_ids and len(all_keys) > max_ids - RESERVED_IDS:
        positions = most_frequent(all_counts, max_ids - RESERVED_IDS)
        all_keys, all_counts = all_keys[positions], all_counts[positions]
        all_texts = all_texts.take(pa.array(positions))
    readable = keys_file.with_suffix(".parquet")
    values = values_of_keys(all_keys, all_texts, feature.kind)
    write_vocabulary(pa.table({"value": values, "count": all_counts}), readable)
    Learnt(all_keys).write(keys_file)
    return readable


def most_frequent(counts: np.ndarray, number: int) -> np.ndarray:
    """Positions of the ``number`` largest counts, ascending; of equal counts, the first."""
    least = np.partition(counts, len(counts) - number)[len(counts) - number] if number else np.inf
    above = np.flatnonzero(counts > least)
    equal = np.flatnonzero(counts == least)[: number - len(above)]
    return np.sort(np.concatenate([above, equal]))


def read_vocabulary(keys_file: Path) -> Learnt:
    """A vocabulary that :meth:`Learnt.write` has written, mapped into memory: the workers of a machine share one
    copy."""
    arrays = [
        np.load(path, mmap_mode="r", allow_pickle=False)
        for path in (keys_file, _places_file(keys_file))
        if path.is_file()
    ]
    return Learnt(*arrays)


def _places_file(keys_file: Path) -> Path:
    return keys_file.with_suffix(".places.npy")


def read_values(path: Location, kind: Kind) -> Learnt:
    """A vocabulary from the values that a data set keeps (.parquet, column ``value``).

    Raises:
        ValueError: they are of another kind.
    """
    values = read_table(path, ["value"])["value"]
    if pa.types.is_int64(values.type) != (kind == "integer"):
        raise ValueError(f"{path}: the values are of type {values.type}, expected those of a column of kind {kind}")
    return of_values(values, kind)


def of_values(values: pa.ChunkedArray, kind: Kind) -> Learnt:
    """A vocabulary from its values, in the order of the ids."""
    keys = keys_of_values(values, kind)
    if (keys[:-1] < keys[1:]).all():
        return Learnt(keys)
    places = np.argsort(keys)
    return Learnt(keys[places], places)
