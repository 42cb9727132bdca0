"""Ids of categorical values, learnt from training rows alone.

Values are integers; ``NULL`` stands for an empty field.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_prep.columns.arrays import NULL, Integers
from dlrm_mtl.meaning import UNSEEN_ID as UNSEEN_ID

Ids = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]

MISSING_ID = 0
"""Id of an empty field."""
RESERVED_IDS = 2


@dataclass(frozen=True)
class Vocabulary:
    """The values that have ids of their own, ascending, and how often each occurs."""

    values: Integers
    counts: Integers


class ValueCounter:
    """Counts how often each value occurs, over any number of batches; memory grows with the distinct values."""

    def __init__(self) -> None:
        self._values: Integers = np.empty(0, np.int64)
        self._counts: Integers = np.empty(0, np.int64)
        self._pending: list[tuple[Integers, Integers]] = []
        self._pending_size = 0

    def add(self, values: Integers, weights: Integers | None = None) -> None:
        """Counts each value once, or by its weight; ``NULL`` and weight 0 do not count."""
        if weights is None:
            distinct, counts = np.unique(values[values != NULL], return_counts=True)
        else:
            occurs = (values != NULL) & (weights > 0)
            distinct, counts = grouped(values[occurs], weights[occurs])
        self._pending.append((distinct, counts))
        self._pending_size += len(distinct)
        # Merging when new values outnumber old ones sorts each value O(log batches) times.
        if self._pending_size >= len(self._values):
            self._merge()

    def vocabulary(self, min_count: int) -> Vocabulary:
        """The values that occurred at least ``min_count`` times."""
        self._merge()
        is_frequent = self._counts >= min_count
        return Vocabulary(self._values[is_frequent], self._counts[is_frequent])

    def _merge(self) -> None:
        parts = [(self._values, self._counts), *self._pending]
        self._values, self._counts = grouped(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
        self._pending, self._pending_size = [], 0


def grouped(values: np.ndarray, weights: Integers) -> tuple[np.ndarray, Integers]:
    """Distinct values, ascending, and the sum of each one's weights."""
    if not len(values):
        return values, weights
    order = np.argsort(values, kind="stable")
    values = values[order]
    first = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    return values[first], np.add.reduceat(weights[order], first)
