"""Ranking metrics of a task's predictions, with the influence of each bucket of rows.

Notation: N rows, V different logits.
"""

import numpy as np
from scipy.special import expit

from dlrm_mtl.metrics.estimates import Estimates, FloatArray, of_one
from dlrm_mtl.metrics.predictions.rows import Rows, tenths
from dlrm_mtl.metrics.task_metrics import Decile


class Ranking:
    """Rows ordered by logit; rows with equal logits share a place."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._order = np.argsort(rows.logits)
        ordered = rows.logits[self._order]
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        weights, counts = rows.weights[self._order], np.diff(starts, append=len(ordered))
        self._value = np.empty(len(ordered), dtype=np.int64)
        """(N,) place of each row's logit among the V logits."""
        self._value[self._order] = np.repeat(np.arange(len(starts)), counts)
        self._positives = np.add.reduceat(weights * rows.positive[self._order], starts)
        """(V,) weight of the positives."""
        self._negatives = np.add.reduceat(weights * ~rows.positive[self._order], starts)
        """(V,) weight of the negatives."""

    def tied_pairs(self) -> float:
        """Share of pairs of a positive and a negative with equal logits."""
        positives, negatives = self._positives, self._negatives
        return float((positives * negatives).sum() / (positives.sum() * negatives.sum()))

    def auc(self) -> Estimates:
        """Area under the ROC curve; tied pairs count half.

        A row's influence is the deviation of its placement among the rows of the other class from the mean placement
        (Hanley and McNeil 1982; DeLong et al. 1988).
        """
        positives, negatives = self._positives.sum(), self._negatives.sum()
        among_negatives = (np.cumsum(self._negatives) - self._negatives / 2) / negatives
        among_positives = 1 - (np.cumsum(self._positives) - self._positives / 2) / positives
        auc = float((self._positives * among_negatives).sum() / positives)
        of_positive, of_negative = (among_negatives - auc) / positives, (among_positives - auc) / negatives
        return of_one(auc, self._influence(of_positive, of_negative))

    def average_precision(self) -> Estimates:
        """Area under the stepwise precision-recall curve: the mean, over positives, of the precision among rows
        predicted at least as high.

        Let T(v) of the C(v) rows at or above v be positive. The precision T / C at every v up to a row's own logit
        changes with the row's weight by (y - T / C) / C.
        """
        total = self._positives.sum()
        above = np.cumsum((self._positives + self._negatives)[::-1])[::-1]
        precision = np.cumsum(self._positives[::-1])[::-1] / above
        value = float((self._positives * precision).sum() / total)
        gain = np.cumsum(self._positives / above)
        loss = np.cumsum(self._positives * precision / above)
        of_positive, of_negative = (precision - value + gain - loss) / total, -loss / total
        return of_one(value, self._influence(of_positive, of_negative))

    def deciles(self) -> tuple[Decile, ...]:
        """Tenths of the rows, from the lowest logits to the highest; fewer parts for fewer than ten rows."""
        logits = self._rows.logits[self._order].astype(np.float64)
        means = tenths(expit(logits), self._rows.positive[self._order], self._rows.weights[self._order])
        return tuple(Decile(rows, predicted, rate) for rows, predicted, rate in means)

    def _influence(self, of_positive: FloatArray, of_negative: FloatArray) -> FloatArray:
        """(K,) from that of a positive and of a negative of weight 1 with each logit, (V,)."""
        of_rows = np.where(self._rows.positive, of_positive[self._value], of_negative[self._value])
        return self._rows.influence(self._rows.weights * of_rows)
