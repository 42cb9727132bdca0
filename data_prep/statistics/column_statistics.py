"""Statistics of one column of one split, accumulated table by table."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.columns.arrays import Integers
from data_prep.ids.scaling import Moments
from data_prep.ids.vocabulary import MISSING_ID, UNSEEN_ID
from data_prep.output.label_counts import LabelCounts
from dlrm_mtl.model_schema import CategoricalFeature

HEAD_IDS = 10
"""Number of most frequent ids in ``head_share``, and of ids with a PSI bucket of their own."""


@dataclass(frozen=True)
class LabelStatistics:
    """A binary task's labels in one split."""

    rows: int
    """Rows where the task is defined."""
    positives: int
    base_rate: float | None
    """``positives / rows``; null without rows."""

    @staticmethod
    def of(counts: LabelCounts) -> "LabelStatistics":
        return LabelStatistics(counts.rows, counts.positives, ratio_or_none(counts.positives, counts.rows))


@dataclass(frozen=True)
class IdStatistics:
    """A categorical feature's ids in one split. Shares are of ids, not of rows, and null where there is no id."""

    ids: int
    distinct: int
    """Ids that occur."""
    mean_length: float
    """Ids per row."""
    max_length: int
    empty_share: float
    """Share of the rows that have no id."""
    missing_share: float | None
    """Share of the id for missing values; null also where the data set reserves no such id."""
    unseen_share: float | None
    """Share of the id for a value outside the vocabulary; null also where the data set reserves no such id."""
    head_share: float | None
    """Share of the 10 ids that are most frequent in this split."""


@dataclass(frozen=True)
class ValueStatistics:
    """A dense feature's values in one split."""

    mean: float
    std: float
    """Population standard deviation."""
    min: float
    max: float
    zero_share: float


class IdCounter:
    """Counts a feature's ids, over any number of tables."""

    def __init__(self, feature: CategoricalFeature) -> None:
        self._feature = feature
        self._rows = 0
        self._empty = 0
        self._max_length = 0
        self.counts: Integers = np.zeros(feature.cardinality, np.int64)
        """Occurrences of each id."""

    def add(self, table: pa.Table) -> None:
        column = table[self._feature.name]
        lengths = np.ones(1, np.int64)
        if self._feature.multi_hot:
            lengths = np.asarray(pc.list_value_length(column))
            column = pc.list_flatten(column)
        self._rows += len(table)
        self._empty += int(np.count_nonzero(lengths == 0))
        self._max_length = max(self._max_length, int(lengths.max(initial=0)))
        np.add.at(self.counts, np.asarray(column).astype(np.int64), 1)

    def statistics(self, reserved: bool) -> IdStatistics:
        total = int(self.counts.sum())
        occurring = self.counts[self.counts > 0]
        head = np.sort(occurring)[-HEAD_IDS:]

        def share(reserved_id: int) -> float | None:
            in_table = reserved and reserved_id < len(self.counts)
            return ratio_or_none(int(self.counts[reserved_id]), total) if in_table else None

        return IdStatistics(
            ids=total,
            distinct=len(occurring),
            mean_length=total / self._rows,
            max_length=self._max_length,
            empty_share=self._empty / self._rows,
            missing_share=share(MISSING_ID),
            unseen_share=share(UNSEEN_ID),
            head_share=ratio_or_none(int(head.sum()), total),
        )


class ValueMoments:
    """Moments and extremes of a dense feature, over any number of tables."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._moments = Moments()
        self._zeros = 0
        self._min = np.inf
        self._max = -np.inf

    def add(self, table: pa.Table) -> None:
        values = np.asarray(table[self._name]).astype(np.float64)
        if not len(values):
            return
        self._moments.add(values)
        self._zeros += int(np.count_nonzero(values == 0.0))
        self._min = min(self._min, float(values.min()))
        self._max = max(self._max, float(values.max()))

    def statistics(self) -> ValueStatistics:
        # For equal values, mean and deviation have rounding errors.
        equal = self._min == self._max
        return ValueStatistics(
            mean=self._min if equal else self._moments.mean,
            std=0.0 if equal else self._moments.deviation,
            min=self._min,
            max=self._max,
            zero_share=self._zeros / self._moments.count,
        )


def ratio_or_none(part: float, whole: float) -> float | None:
    """``part / whole``, or None where ``whole`` is 0."""
    return part / whole if whole else None
