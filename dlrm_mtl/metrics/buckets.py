"""Assigns clusters of rows, such as all rows of a user, to buckets and to halves of the split.

Both are functions of the cluster's key, so they are the same on every rank and in any order of rows. They use different
bits and are independent of each other. The bits are mixed here, so that any integers can be keys, such as 0, 1, 2, ...
"""

import torch
from torch import Tensor

BUCKETS = 1000
"""K, the number of buckets of an evaluation. All rows of a cluster are in one bucket, so buckets are independent."""


def bucket_of(keys: Tensor, buckets: int) -> Tensor:
    """(B,) bucket of each cluster; (B,) int64 keys."""
    return _shifted(_mixed(keys), 33) % buckets


def half_of(keys: Tensor) -> Tensor:
    """(B,) bool, the half of the split that each cluster is in; (B,) int64 keys."""
    return (_mixed(keys) & 1).bool()


def _mixed(keys: Tensor) -> Tensor:
    """As :func:`dlrm_mtl.mixing.mix`, with int64 arithmetic that wraps around, on any device."""
    keys = (keys ^ _shifted(keys, 30)) * -0x40A7B892E31B1A47
    keys = (keys ^ _shifted(keys, 27)) * -0x6B2FB644ECCEEE15
    return keys ^ _shifted(keys, 31)


def _shifted(keys: Tensor, places: int) -> Tensor:
    """Logical shift to the right."""
    return (keys >> places) & (torch.iinfo(torch.int64).max >> (places - 1))
