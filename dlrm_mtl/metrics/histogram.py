"""Histogram of predicted logits, for the AUC of any number of rows.

Bins have a width of 0.002 in u, a monotone function of the logit x: u = x within +-16, and beyond u = sign(x) 16 (1 +
ln(|x| / 16)), which distinguishes logits up to +-43.
"""

import numpy as np
import torch
from torch import Tensor

from dlrm_mtl.metrics.estimates import FloatArray

BINS = 1 << 15
"""Number of bins, over u in [-32, 32)."""
_END = 32.0
_LINEAR = 16.0


def bins_of(logits: Tensor) -> Tensor:
    """int64 bin of each logit; an arbitrary bin if it is not finite."""
    size = logits.abs()
    size = size.clamp(max=_LINEAR) + _LINEAR * (size / _LINEAR).clamp(min=1.0).log()
    u = torch.copysign(size, logits)
    return ((u + _END) * (BINS / (2 * _END))).nan_to_num().clamp(0, BINS - 1).long()


def auc_of_histogram(histogram: FloatArray) -> tuple[float, float]:
    """Area under the ROC curve, with pairs in the same bin counted half, and the share of such tied pairs.

    Args:
        histogram: (2, BINS) negatives and positives, with at least one of each.
    """
    negatives, positives = histogram
    below = np.cumsum(negatives) - negatives
    pairs = positives.sum() * negatives.sum()
    tied = float((positives * negatives).sum() / pairs)
    return float((positives * below).sum() / pairs) + tied / 2, tied
