"""The defined rows of a task, for metrics of single predictions.

Notation: N rows, K buckets.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dlrm_mtl.metrics.estimates import FloatArray, bucket_totals


@dataclass(frozen=True, kw_only=True)
class WeightedRows:
    """Rows with their weights."""

    weights: FloatArray
    """(N,) positive."""
    buckets: npt.NDArray[np.int64]
    """(N,) of each row's cluster."""
    num_buckets: int
    """K."""

    def influence(self, of_rows: FloatArray) -> FloatArray:
        """(K,) from (N,)."""
        return bucket_totals(of_rows, self.buckets, self.num_buckets)


@dataclass(frozen=True, kw_only=True)
class Rows(WeightedRows):
    """Rows of a binary task, with both classes present."""

    logits: npt.NDArray[np.float32]
    """(N,) finite."""
    positive: npt.NDArray[np.bool_]
    """(N,)."""


@dataclass(frozen=True, kw_only=True)
class LabelledRows(WeightedRows):
    """Rows of a regression task."""

    predictions: npt.NDArray[np.float32]
    """(N,) finite, in the label's unit."""
    labels: npt.NDArray[np.float32]
    """(N,)."""


def tenths(
    predictions: FloatArray, labels: npt.NDArray[np.float32 | np.bool_], weights: FloatArray
) -> list[tuple[int, float, float]]:
    """Count, mean prediction and mean label of each tenth of (N,) rows in the order of their predictions; fewer parts
    for fewer than ten rows."""
    parts = zip(*(np.array_split(column, 10) for column in (predictions, labels, weights)), strict=True)
    return [
        (len(of_part), float(np.average(predicted, weights=of_part)), float(np.average(of_labels, weights=of_part)))
        for predicted, of_labels, of_part in parts
        if len(of_part)
    ]
