"""Histogram of predicted logits, from which the AUC of any number of rows is taken.

Bins have a width of 0.002 in u, a monotone map of the logit: the logit x itself within +-16, and beyond, with the sign
of x, 16 (1 + ln(|x| / 16)), so that logits up to +-43 are told apart.
"""

import numpy as np
import torch
from torch import Tensor

from dlrm_mtl.metrics.estimates import FloatArray

BINS = 1 << 15
"""Over u in [-32, 32)."""
_END = 32.0
_LINEAR = 16.0


def bins_of(logits: Tensor) -> Tensor:
    """int64 bin of each logit; any bin for one that is not finite."""
    size = logits.abs()
    size = size.clamp(max=_LINEAR) + _LINEAR * (size / _LINEAR).clamp(min=1.0).log()
    u = torch.copysign(size, logits)
    return ((u + _END) * (BINS / (2 * _END))).nan_to_num().clamp(0, BINS - 1).long()


def auc_of_histogram(histogram: FloatArray) -> tuple[float, float]:
    """Area under the ROC curve, in which the tied pairs of a bin count half, and the share of tied pairs.

    Args:
        histogram: (2, BINS) negatives, positives; both there.
    """
    negatives, positives = histogram
    below = np.cumsum(negatives) - negatives
    pairs = positives.sum() * negatives.sum()
    tied = float((positives * negatives).sum() / pairs)
    return float((positives * below).sum() / pairs) + tied / 2, tied
