"""Fingerprints of tables and dense features, for the schema of a prepared data set."""

import hashlib
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.columns.layout import DenseColumn, Kind
from data_prep.ids.vocabulary import RESERVED_IDS
from dlrm_mtl.meaning import DenseFingerprint, TableFingerprint

KEYS: Mapping[Kind, str] = {
    "hex": "32-bit number",
    "integer": "64-bit integer",
    "string": "64-bit hash of the text",
}
"""The key of each kind of column, see ``keys``."""

MIXERS: Mapping[Kind, str] = {"hex": "murmur3 finaliser", "integer": "splitmix64", "string": "splitmix64"}
"""The hash of each key type, see ``assignment.Hashed``."""


def of_vocabulary(values: pa.ChunkedArray) -> TableFingerprint:
    """The fingerprint of a table whose ids are learnt.

    Args:
        values: the values that have ids of their own, in the order of the ids: integers or strings, no nulls.
    """
    digest = hashlib.sha256()
    chunks = [chunk for chunk in values.chunks if len(chunk)]
    for chunk in chunks:
        digest.update(np.asarray(pc.binary_length(_texts(chunk))).astype("<u4").tobytes())
    for chunk in chunks:
        texts = _texts(chunk)
        _, offset_buffer, data = texts.buffers()
        offsets = np.frombuffer(offset_buffer, np.int64, len(texts) + 1, 8 * texts.offset)
        digest.update(memoryview(data)[offsets[0] : offsets[-1]] if offsets[-1] else b"")
    return TableFingerprint("vocabulary", len(values) + RESERVED_IDS, sha256=digest.hexdigest())


def of_hash(kind: Kind, size: int) -> TableFingerprint:
    """The fingerprint of a table whose ids are hashes."""
    return TableFingerprint("hash", size, f"{MIXERS[kind]} of the {KEYS[kind]}")


def of_modulo(kind: Kind, size: int) -> TableFingerprint:
    """The fingerprint of a table whose ids are remainders."""
    return TableFingerprint("modulo", size, f"remainder of the {KEYS[kind]}")


def of_dense(column: DenseColumn, mean: float = 0.0, deviation: float = 1.0) -> DenseFingerprint:
    """The fingerprint of a dense feature."""
    return DenseFingerprint(column.transform, column.shift if column.transform == "log" else 0.0, mean, deviation)


def of_mark() -> DenseFingerprint:
    """The fingerprint of a dense feature that marks missing values of another one."""
    return DenseFingerprint("missing")


def _texts(values: pa.Array) -> pa.LargeStringArray:
    return values.cast(pa.large_string())
