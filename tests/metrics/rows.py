"""A task's rows, and its metrics in float64 by definition, with a weight for every row."""

import numpy as np
import numpy.typing as npt

from dlrm_mtl.metrics.estimates import FloatArray
from dlrm_mtl.metrics.ranking import Rows

BUCKETS = 25
CLUSTERS = 120


def example(rows: int = 600, seed: int = 0, ties: bool = True) -> tuple[Rows, npt.NDArray[np.int64]]:
    """Rows of clusters of different sizes, each in a bucket as a whole, and the rows' clusters. A cluster's predictions
    have an error in common."""
    generator = np.random.default_rng(seed)
    clusters = (CLUSTERS * generator.random(rows) ** 1.5).astype(np.int64)
    truth = generator.normal(size=rows) - 1 + generator.normal(size=CLUSTERS)[clusters]
    logits = truth + 0.7 * generator.normal(size=rows) + 0.5
    logits = np.round(logits, 1) if ties else logits
    positive = generator.random(rows) < 1 / (1 + np.exp(-truth))
    buckets = generator.integers(BUCKETS, size=CLUSTERS)[clusters]
    return Rows(logits.astype(np.float32), positive, buckets, BUCKETS), clusters


def auc(rows: Rows, weights: FloatArray) -> float:
    """Every pair compared."""
    logits, positive = rows.logits.astype(np.float64), rows.positive
    wins = np.heaviside(logits[positive][:, None] - logits[~positive], 0.5)
    pairs = np.outer(weights[positive], weights[~positive])
    return float((wins * pairs).sum() / pairs.sum())


def average_precision(rows: Rows, weights: FloatArray) -> float:
    """Recall gained at each threshold, times the precision there."""
    total, value, recall = weights[rows.positive].sum(), 0.0, 0.0
    for threshold in np.unique(rows.logits)[::-1]:
        above = rows.logits >= threshold
        true = weights[above & rows.positive].sum()
        if (all_above := weights[above].sum()) > 0:
            value += (true / total - recall) * true / all_above
        recall = true / total
    return float(value)


def of_cluster(rows: Rows, which: npt.NDArray[np.bool_]) -> Rows:
    return Rows(rows.logits[which], rows.positive[which], rows.buckets[which], rows.num_buckets)
