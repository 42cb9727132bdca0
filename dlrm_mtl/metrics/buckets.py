"""Where a cluster of rows, such as all rows of a user, belongs: a bucket, and a half of the split.

Both are functions of the cluster's key, and so are the same on any rank and in any order of rows. They are taken from
different bits, so that none tells of another. The bits are mixed here, so that any numbers will do as keys, such as
0, 1, 2, ...
"""

import torch
from torch import Tensor

BUCKETS = 1000
"""K of an evaluation. All rows of a cluster are in one bucket, so that buckets are independent of each other."""


def bucket_of(keys: Tensor, buckets: int) -> Tensor:
    """(B,) bucket of each cluster; (B,) int64 keys."""
    return _shifted(_mixed(keys), 33) % buckets


def half_of(keys: Tensor) -> Tensor:
    """(B,) bool, in which half of the split each cluster is; (B,) int64 keys."""
    return (_mixed(keys) & 1).bool()


def _mixed(keys: Tensor) -> Tensor:
    """As :func:`dlrm_mtl.mixing.mix`, of int64 that wraps around; on any device."""
    keys = (keys ^ _shifted(keys, 30)) * -0x40A7B892E31B1A47
    keys = (keys ^ _shifted(keys, 27)) * -0x6B2FB644ECCEEE15
    return keys ^ _shifted(keys, 31)


def _shifted(keys: Tensor, places: int) -> Tensor:
    """To the right; zeros come in from the left."""
    return (keys >> places) & (torch.iinfo(torch.int64).max >> (places - 1))
