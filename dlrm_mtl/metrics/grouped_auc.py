"""AUC within each cluster, such as a user: whether the items shown to a user are ordered well.

A user's rows are all in one bucket. Their weight changes the user's share in the average, not the user's AUC.
"""

import numpy as np
import numpy.typing as npt

from dlrm_mtl.metrics.estimates import Estimates, FloatArray, bucket_totals, of_one, undefined
from dlrm_mtl.metrics.ranking import Rows


def grouped_auc(rows: Rows, clusters: npt.NDArray[np.int64]) -> tuple[Estimates, Estimates, int]:
    """AUC averaged over the clusters with both classes.

    Args:
        clusters: (N,) number of each row's cluster, from 0.

    Returns:
        GAUC, weighted by the clusters' rows (Zhu et al., KDD 2017); uAUC, unweighted; the number of these clusters.
    """
    rows_of = np.bincount(clusters).astype(np.float64)
    positives_of = np.bincount(clusters, rows.positive)
    both = (positives_of > 0) & (positives_of < rows_of)
    if not both.any():
        return undefined(rows.num_buckets), undefined(rows.num_buckets), 0
    sizes, positives = rows_of[both], positives_of[both]
    negatives = sizes - positives
    kept = np.flatnonzero(both[clusters])
    kept = kept[np.lexsort((rows.logits[kept], clusters[kept]))]
    cluster, logits = clusters[kept], rows.logits[kept]
    starts = np.flatnonzero(np.concatenate([[True], (cluster[1:] != cluster[:-1]) | (logits[1:] != logits[:-1])]))
    tied_positives = np.add.reduceat(rows.positive[kept].astype(np.float64), starts)
    tied_negatives = np.diff(starts, append=len(kept)) - tied_positives
    # Counts wins over all earlier negatives, and subtracts those over other clusters' negatives.
    wins = np.bincount(cluster[starts], tied_positives * (np.cumsum(tied_negatives) - tied_negatives / 2))
    auc = wins[both[: len(wins)]] / (positives * negatives) - (np.cumsum(negatives) - negatives) / negatives
    bucket = np.empty(len(both), dtype=np.int64)
    bucket[clusters] = rows.buckets
    averages = [_average(auc, weights, bucket[both], rows.num_buckets) for weights in (sizes, np.ones_like(sizes))]
    return averages[0], averages[1], int(both.sum())


def _average(values: FloatArray, weights: FloatArray, buckets: npt.NDArray[np.int64], num_buckets: int) -> Estimates:
    mean = float((weights * values).sum() / weights.sum())
    return of_one(mean, bucket_totals(weights * (values - mean) / weights.sum(), buckets, num_buckets))
