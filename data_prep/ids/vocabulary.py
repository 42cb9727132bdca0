"""Ids of categorical values and scales of dense ones, both learnt from training rows alone.

Values are integers; ``NULL`` stands for an empty field.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Ids = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]

NULL = int(np.iinfo(np.int64).min)

MISSING_ID = 0
"""Id of an empty field."""
UNSEEN_ID = 1
"""Id of a value outside the vocabulary."""
RESERVED_IDS = 2


@dataclass(frozen=True)
class Vocabulary:
    """The values that have ids of their own, ascending; the ids are their positions, after the reserved ones."""

    values: Integers

    @property
    def cardinality(self) -> int:
        return len(self.values) + RESERVED_IDS

    def encode(self, values: Integers) -> Ids:
        """Ids of any values, same shape."""
        if len(self.values):
            position = np.minimum(np.searchsorted(self.values, values), len(self.values) - 1)
            ids = np.where(self.values[position] == values, position + RESERVED_IDS, UNSEEN_ID)
        else:
            ids = np.full(values.shape, UNSEEN_ID)
        return np.where(values == NULL, MISSING_ID, ids).astype(np.int32)


class ValueCounter:
    """Counts how often each value occurs, over any number of batches; memory grows with the distinct values."""

    def __init__(self) -> None:
        self._values: Integers = np.empty(0, np.int64)
        self._counts: Integers = np.empty(0, np.int64)
        self._pending: list[tuple[Integers, Integers]] = []
        self._pending_size = 0

    def add(self, values: Integers, weights: Integers | None = None) -> None:
        """Counts each value once, or as often as its weight says; ``NULL`` and weight 0 are no occurrence."""
        if weights is None:
            distinct, counts = np.unique(values[values != NULL], return_counts=True)
        else:
            occurs = (values != NULL) & (weights > 0)
            distinct, counts = grouped(values[occurs], weights[occurs])
        self._pending.append((distinct, counts))
        self._pending_size += len(distinct)
        # Merged once the new values are as many as the old ones, so that each is sorted O(log batches) times.
        if self._pending_size >= len(self._values):
            self._merge()

    def vocabulary(self, min_count: int) -> Vocabulary:
        """The values that occurred at least ``min_count`` times."""
        self._merge()
        return Vocabulary(self._values[self._counts >= min_count])

    def _merge(self) -> None:
        parts = [(self._values, self._counts), *self._pending]
        self._values, self._counts = grouped(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
        self._pending, self._pending_size = [], 0


@dataclass(frozen=True)
class Scaler:
    """Standardises a dense feature; where a value is missing it takes the mean."""

    mean: float
    deviation: float
    """1 where all values are equal, or none is there."""
    has_missing: bool
    """Whether values were missing among those it was learnt from: then an indicator column is worth having."""

    def apply(self, values: Floats) -> npt.NDArray[np.float32]:
        return np.nan_to_num((values - self.mean) / self.deviation, nan=0.0).astype(np.float32)


class Moments:
    """Mean and standard deviation of a dense feature over any number of batches; NaN is a missing value."""

    def __init__(self) -> None:
        self._count = 0
        self._missing = 0
        self._mean = 0.0
        self._squares = 0.0

    def add(self, values: Floats, weights: Integers | None = None) -> None:
        """Counts each value once, or as often as its weight says."""
        weights = np.ones(len(values), np.int64) if weights is None else weights
        known = ~np.isnan(values)
        self._missing += int(weights[~known].sum())
        values, weights = values[known], weights[known]
        count = int(weights.sum())
        if count:
            mean = float(np.average(values, weights=weights))
            self._combine(count, mean, float(np.sum(weights * (values - mean) ** 2)))

    def merge(self, other: "Moments") -> None:
        """Counts what another has counted."""
        self._missing += other._missing
        self._combine(other._count, other._mean, other._squares)

    def as_record(self) -> list[float]:
        """What was counted, for JSON."""
        return [self._count, self._missing, self._mean, self._squares]

    @staticmethod
    def from_record(record: list[float]) -> "Moments":
        moments = Moments()
        count, missing, moments._mean, moments._squares = record
        moments._count, moments._missing = int(count), int(missing)
        return moments

    def _combine(self, count: int, mean: float, squares: float) -> None:
        # Chan's update of a mean and a sum of squares by those of a batch: no cancellation of large sums.
        if count == 0:
            return
        total = self._count + count
        shift = mean - self._mean
        self._mean += shift * count / total
        self._squares += squares + shift**2 * self._count * count / total
        self._count = total

    def scaler(self) -> Scaler:
        deviation = float(np.sqrt(self._squares / self._count)) if self._count else 0.0
        # Equal values leave a deviation of rounding size, which must not be divided by.
        if deviation <= 1e-9 * max(abs(self._mean), 1.0):
            deviation = 1.0
        return Scaler(self._mean, deviation, self._missing > 0)


def grouped(values: np.ndarray, weights: Integers) -> tuple[np.ndarray, Integers]:
    """Distinct values, ascending, and the sum of each one's weights."""
    if not len(values):
        return values, weights
    order = np.argsort(values, kind="stable")
    values = values[order]
    first = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    return values[first], np.add.reduceat(weights[order], first)
