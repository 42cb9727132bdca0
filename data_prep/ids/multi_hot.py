"""Multi-hot features: the last values of long lists, and lists from one-hot ids."""

import zlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data_prep.ids.vocabulary import RESERVED_IDS, Ids
from dlrm_mtl.mixing import mix


def expand(ids: Ids, feature: str, length: int, cardinality: int) -> Ids:
    """Expands ids (B,) to (B, length), as in MLPerf's DLRM benchmark: an id always expands to the same list, whose
    first element is the id itself; the others are drawn uniformly from its table, reserved ids left out. They are a
    function of feature, id and position."""
    expanded = np.empty((len(ids), length), np.int32)
    expanded[:, 0] = ids
    stream = np.uint64(zlib.crc32(feature.encode())) << np.uint64(32)
    hashed = mix(ids.astype(np.uint64) ^ stream)
    room = np.uint64(max(cardinality - RESERVED_IDS, 1))
    for place in range(1, length):
        drawn = mix(hashed + np.uint64(place)) >> np.uint64(32)
        expanded[:, place] = np.minimum((drawn * room >> np.uint64(32)) + np.uint64(RESERVED_IDS), cardinality - 1)
    return expanded


def last_of(values: pa.Array, lengths: npt.NDArray[np.int32], number: int) -> tuple[pa.Array, npt.NDArray[np.int32]]:
    """The last values, at most ``number``, of lists of so many values (B,); and their numbers of values (B,)."""
    behind = np.repeat(np.cumsum(lengths), lengths) - np.arange(lengths.sum()) - 1
    return values.filter(pa.array(behind < number)), np.minimum(lengths, np.int32(number))
