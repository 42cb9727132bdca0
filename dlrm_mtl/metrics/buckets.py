"""Where a cluster of rows, such as all rows of a user, belongs: a bucket, and a half of the split.

Both are functions of the cluster's key, whose bits are mixed (see :class:`dlrm_mtl.data.context.Context`), and so are
the same on any rank and in any order of rows. They are taken from different bits, so that none tells of another.
"""

import torch
from torch import Tensor

BUCKETS = 1000
"""K of an evaluation. All rows of a cluster are in one bucket, so that buckets are independent of each other."""


def bucket_of(keys: Tensor, buckets: int) -> Tensor:
    """(B,) bucket of each cluster; (B,) int64 keys."""
    return ((keys >> 33) & torch.iinfo(torch.int32).max) % buckets


def half_of(keys: Tensor) -> Tensor:
    """(B,) bool, in which half of the split each cluster is; (B,) int64 keys."""
    return (keys & 1).bool()
