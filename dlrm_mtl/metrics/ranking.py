"""Metrics of the order of a task's predictions, with what each bucket of rows contributes to their error.

Notation: N rows, P of them positive, V different logits, K buckets.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from dlrm_mtl.metrics.estimates import Estimates, FloatArray, bucket_totals, of_one
from dlrm_mtl.metrics.task_metrics import Decile


@dataclass(frozen=True)
class Rows:
    """A task's defined rows of both classes."""

    logits: npt.NDArray[np.float32]
    """(N,) finite."""
    positive: npt.NDArray[np.bool_]
    """(N,)."""
    buckets: npt.NDArray[np.int64]
    """(N,) of each row's cluster."""
    num_buckets: int
    """K."""

    def influence(self, of_rows: FloatArray) -> FloatArray:
        """(K,) from (N,)."""
        return bucket_totals(of_rows, self.buckets, self.num_buckets)


class Ranking:
    """Rows in the order of their logits, those with the same logit as one."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._order = np.argsort(rows.logits)
        ordered = rows.logits[self._order]
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        counts = np.diff(starts, append=len(ordered))
        self._value = np.empty(len(ordered), dtype=np.int64)
        """(N,) place of each row's logit among the V."""
        self._value[self._order] = np.repeat(np.arange(len(starts)), counts)
        self._positives = np.add.reduceat(rows.positive[self._order].astype(np.float64), starts)
        """(V,)."""
        self._negatives = counts - self._positives
        """(V,)."""

    def tied_pairs(self) -> float:
        """Share of the pairs of a positive and a negative that have the same logit."""
        positives, negatives = self._positives, self._negatives
        return float((positives * negatives).sum() / (positives.sum() * negatives.sum()))

    def auc(self) -> Estimates:
        """Area under the ROC curve; tied pairs count half.

        A row's influence is how much better or worse than the mean it is placed among the rows of the other class
        (Hanley and McNeil 1982; DeLong et al. 1988).
        """
        positives, negatives = self._positives.sum(), self._negatives.sum()
        among_negatives = (np.cumsum(self._negatives) - self._negatives / 2) / negatives
        among_positives = 1 - (np.cumsum(self._positives) - self._positives / 2) / positives
        auc = float((self._positives * among_negatives).sum() / positives)
        of_positive, of_negative = (among_negatives - auc) / positives, (among_positives - auc) / negatives
        influence = np.where(self._rows.positive, of_positive[self._value], of_negative[self._value])
        return of_one(auc, self._rows.influence(influence))

    def average_precision(self) -> Estimates:
        """Area under the precision-recall curve in steps: the mean over positives of the precision among all rows that
        are predicted as high or higher.

        With T(v) positives among C(v) rows at v or above, the precision T / C at every v that a row is not below
        changes with the row's weight by (y - T / C) / C.
        """
        total = self._positives.sum()
        above = np.cumsum((self._positives + self._negatives)[::-1])[::-1]
        precision = np.cumsum(self._positives[::-1])[::-1] / above
        value = float((self._positives * precision).sum() / total)
        gain = np.cumsum(self._positives / above)
        loss = np.cumsum(self._positives * precision / above)
        of_positive, of_negative = (precision - value + gain - loss) / total, -loss / total
        influence = np.where(self._rows.positive, of_positive[self._value], of_negative[self._value])
        return of_one(value, self._rows.influence(influence))

    def deciles(self) -> tuple[Decile, ...]:
        """Tenths of the rows, from the lowest logits to the highest; fewer of fewer than ten rows."""
        predicted = expit(self._rows.logits[self._order].astype(np.float64))
        positive = self._rows.positive[self._order]
        tenths = zip(np.array_split(predicted, 10), np.array_split(positive, 10), strict=True)
        return tuple(
            Decile(len(rows), float(rows.mean()), float(labels.mean())) for rows, labels in tenths if len(rows)
        )
