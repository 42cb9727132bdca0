"""Statistics of a regression task's labels in one split, accumulated table by table."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data_prep.ids.vocabulary import Floats
from data_prep.output.label_counts import LabelCounts, defined_rows
from dlrm_mtl.model_schema import Task

QUANTILES = {"5%": 0.05, "25%": 0.25, "50%": 0.5, "75%": 0.75, "95%": 0.95}

BITS = 20
"""Leading bits of a float32 that number the buckets of quantiles: a bucket's values differ by 1 / 2048 at most."""


@dataclass(frozen=True)
class NumberStatistics:
    """A regression task's labels in one split, by the row weights; null where no row has weight."""

    rows: int
    """Rows where the task is defined."""
    mean: float | None
    deviation: float | None
    """Population standard deviation."""
    min: float | None
    max: float | None
    quantiles: Mapping[str, float | None]
    """Each is within 1 / 2048 of its size."""


class NumberCounter:
    """Counts a regression task's labels, over any number of tables. Memory holds 8 MiB."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._counts = LabelCounts(task)
        self._weights: Floats = np.zeros(1 << BITS)
        """Of each bucket, in the order of the values."""
        self._min = np.inf
        self._max = -np.inf

    def add(self, table: pa.Table) -> None:
        self._counts.add(table)
        table = defined_rows(table, self.task)
        labels = table[self.task.label].to_numpy().astype(np.float32)
        if len(labels):
            weights = table[self.task.weight].to_numpy() if self.task.weight else 1.0
            np.add.at(self._weights, _buckets(labels), weights)
            self._min = min(self._min, float(labels.min()))
            self._max = max(self._max, float(labels.max()))

    def statistics(self) -> NumberStatistics:
        moments, has_weight = self._counts.moments, self._counts.moments.count > 0
        below = np.cumsum(self._weights)

        def quantile(share: float) -> float | None:
            if not has_weight:
                return None
            bucket = np.searchsorted(below, share * below[-1])
            return float(np.clip(_value(int(bucket)), self._min, self._max))

        return NumberStatistics(
            rows=self._counts.rows,
            mean=moments.mean if has_weight else None,
            deviation=moments.deviation if has_weight else None,
            min=self._min if self._counts.rows else None,
            max=self._max if self._counts.rows else None,
            quantiles={name: quantile(share) for name, share in QUANTILES.items()},
        )


def _buckets(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    """Buckets (B,) of values: a larger value has no smaller bucket."""
    bits = values.view(np.uint32)
    is_negative = (bits >> 31).astype(bool)
    return np.where(is_negative, ~bits, bits | np.uint32(1 << 31)) >> np.uint32(32 - BITS)


def _value(bucket: int) -> float:
    """The value of a bucket that is nearest to 0."""
    key = bucket << (32 - BITS)
    bits = key & 0x7FFFFFFF if key >> 31 else ~(key | (1 << (32 - BITS)) - 1) & 0xFFFFFFFF
    return float(np.uint32(bits).view(np.float32))
