"""A task's rows, and its metrics in float64 by definition, with a weight for every row."""

import numpy as np
import numpy.typing as npt

from dlrm_mtl.metrics.estimates import FloatArray
from dlrm_mtl.metrics.predictions.rows import LabelledRows, Rows

BUCKETS = 25
CLUSTERS = 120


def example(
    rows: int = 600, seed: int = 0, ties: bool = True, weighted: bool = False
) -> tuple[Rows, npt.NDArray[np.int64]]:
    """Rows of clusters of different sizes, each in a bucket as a whole, and the rows' clusters. A cluster's predictions
    have an error in common."""
    generator = np.random.default_rng(seed)
    clusters = (CLUSTERS * generator.random(rows) ** 1.5).astype(np.int64)
    truth = generator.normal(size=rows) - 1 + generator.normal(size=CLUSTERS)[clusters]
    logits = truth + 0.7 * generator.normal(size=rows) + 0.5
    logits = np.round(logits, 1) if ties else logits
    positive = generator.random(rows) < 1 / (1 + np.exp(-truth))
    buckets = generator.integers(BUCKETS, size=CLUSTERS)[clusters]
    weights = generator.exponential(size=rows) if weighted else None
    return rows_of(logits, positive, buckets, weights), clusters


def rows_of(
    logits: npt.ArrayLike,
    positive: npt.ArrayLike,
    buckets: npt.NDArray[np.int64] | None = None,
    weights: FloatArray | None = None,
) -> Rows:
    """Rows of weight 1, each in a bucket of its own, unless something else is given."""
    count = len(np.asarray(logits))
    return Rows(
        logits=np.asarray(logits, dtype=np.float32),
        positive=np.asarray(positive) > 0,
        weights=np.ones(count) if weights is None else weights,
        buckets=np.arange(count) if buckets is None else buckets,
        num_buckets=count if buckets is None else BUCKETS,
    )


def regression_example(rows: int = 600, seed: int = 0) -> LabelledRows:
    """Rows with ties of predictions and of labels."""
    generator = np.random.default_rng(seed)
    labels = np.round(2 * generator.normal(size=rows) + 5, 1)
    return LabelledRows(
        predictions=np.round(labels + generator.normal(size=rows), 1).astype(np.float32),
        labels=labels.astype(np.float32),
        weights=generator.exponential(size=rows),
        buckets=generator.integers(BUCKETS, size=rows),
        num_buckets=BUCKETS,
    )


def xauc(rows: LabelledRows, weights: FloatArray) -> float:
    """Every pair compared."""
    labels, predictions = (np.sign(each[:, None] - each) for each in (rows.labels, rows.predictions))
    pairs = np.outer(weights, weights) * (labels != 0)
    return float((pairs * (1 + labels * predictions) / 2).sum() / pairs.sum())


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
    return rows_of(rows.logits[which], rows.positive[which], rows.buckets[which], rows.weights[which])
