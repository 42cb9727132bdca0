"""AUC within each cluster, such as a user: whether the items shown to a user are ordered well.

A user's rows are all in one bucket. Their weight changes the user's share in the average, not the user's AUC.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from dlrm_mtl.metrics.estimates import Estimates, FloatArray, bucket_totals, of_one, undefined
from dlrm_mtl.metrics.predictions.rows import Rows


def grouped_auc(rows: Rows, clusters: npt.NDArray[np.int64]) -> tuple[Estimates, Estimates, int]:
    """AUC averaged over the clusters with both classes.

    Args:
        clusters: (N,) number of each row's cluster, from 0.

    Returns:
        GAUC, weighted by the weights of the clusters' rows (Zhu et al., KDD 2017); uAUC, unweighted; the number of
        these clusters.
    """
    positives_of, negatives_of = (
        np.bincount(clusters, rows.weights * each) for each in (rows.positive, ~rows.positive)
    )
    both = (positives_of > 0) & (negatives_of > 0)
    if not both.any():
        return undefined(rows.num_buckets), undefined(rows.num_buckets), 0
    positives, negatives = positives_of[both], negatives_of[both]
    sizes = positives + negatives
    kept = np.flatnonzero(both[clusters])
    kept = kept[np.lexsort((rows.logits[kept], clusters[kept]))]
    cluster, logits = clusters[kept], rows.logits[kept]
    starts = np.flatnonzero(np.concatenate([[True], (cluster[1:] != cluster[:-1]) | (logits[1:] != logits[:-1])]))
    weights, positive = rows.weights[kept], rows.positive[kept]
    tied_positives, tied_negatives = (np.add.reduceat(weights * each, starts) for each in (positive, ~positive))
    # Counts wins over all earlier negatives, and subtracts those over other clusters' negatives.
    wins = np.bincount(cluster[starts], tied_positives * (np.cumsum(tied_negatives) - tied_negatives / 2))
    auc = wins[both[: len(wins)]] / (positives * negatives) - (np.cumsum(negatives) - negatives) / negatives
    bucket = np.empty(len(both), dtype=np.int64)
    bucket[clusters] = rows.buckets
    gauc, uauc = (_average(auc, shares, bucket[both], rows.num_buckets) for shares in (sizes, np.ones(len(sizes))))
    return gauc, uauc, int(both.sum())


def _average(
    values: FloatArray, weights: npt.NDArray[Any], buckets: npt.NDArray[np.int64], num_buckets: int
) -> Estimates:
    mean = float((weights * values).sum() / weights.sum())
    return of_one(mean, bucket_totals(weights * (values - mean) / weights.sum(), buckets, num_buckets))
