"""Balances large gradients in a process of its own; prints what came of it."""

import torch

from dlrm_mtl.balancing import BalancingLayer, MultiBalance
from dlrm_mtl.balancing.kernels.gramian import local_gramian
from dlrm_mtl.balancing.kernels.weighted_sum import combine_gradients

for num_tasks in (2, 3, 2):
    rows = torch.randn(num_tasks, 1 << 20, generator=torch.Generator().manual_seed(0))
    coefficients = torch.arange(1.0, num_tasks + 1, dtype=torch.float64)
    gramian = local_gramian(list(rows), rows.device)
    combined = combine_gradients(list(rows), coefficients)
    assert combined is not None
    wide = rows.double()
    torch.testing.assert_close(gramian, wide @ wide.T, rtol=1e-6, atol=1.0)
    torch.testing.assert_close(combined.double(), coefficients @ wide, rtol=1e-5, atol=1e-5)
    balanced = BalancingLayer(MultiBalance(num_tasks)).balance(tuple(rows))
    assert balanced is not None
    torch.testing.assert_close(balanced.double(), MultiBalance(num_tasks).combine(wide), rtol=1e-5, atol=1e-5)
    print("right")
