"""The probability simplex: projection and min-norm point. On device, with a fixed amount of work: no host sync."""

import itertools
from functools import lru_cache

import torch
from torch import Tensor

MAX_ENUMERATED_TASKS = 8
"""Up to this many tasks the min-norm point enumerates all supports (255 systems of size 8); beyond, it iterates."""


def project_to_simplex(vector: Tensor) -> Tensor:
    """Euclidean projection onto the probability simplex (Duchi et al., ICML 2008, figure 1).

    Args:
        vector: (M,).

    Returns:
        (M,) the nearest point with non-negative entries that sum to 1.
    """
    descending = vector.sort(descending=True).values
    # With the k largest entries in the support, this is what brings their sum to 1; the right k maximises it.
    thresholds = (descending.cumsum(0) - 1) / _counts(len(vector), vector.dtype, vector.device)
    return (vector - thresholds.max()).clamp(min=0)


@lru_cache(maxsize=64)
def _counts(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.arange(1, size + 1, dtype=dtype, device=device)


def min_norm_point(gramian: Tensor) -> Tensor:
    """Weights of the smallest convex combination of M gradients: argmin over the simplex of w' G w (equation 2 of
    the paper; MGDA).

    Exact up to rounding for M <= 8, by solving the optimality system of every support at once; for more tasks, a
    fixed number of accelerated projected-gradient steps.

    Args:
        gramian: (M, M) inner products of the gradients, any scale, finite.

    Returns:
        (M,) weights on the simplex, in float64.
    """
    gramian = gramian.double()
    tiny = torch.finfo(gramian.dtype).tiny
    gramian = gramian / gramian.diagonal().max().clamp(min=tiny)
    if len(gramian) <= MAX_ENUMERATED_TASKS:
        return _min_norm_by_enumeration(gramian)
    return _min_norm_by_iteration(gramian)


def _min_norm_by_enumeration(gramian: Tensor) -> Tensor:
    num_tasks = len(gramian)
    supports = _supports(num_tasks, gramian.device)  # (S, M), 1.0 in the support
    pairs = supports[:, :, None] * supports[:, None, :]
    # Inside a support G w = const * 1; outside w = 0. The ridge only decides between duplicate gradients; it is
    # relative to each task's own norm, or it would outweigh the small ones. The constant is for zero gradients.
    ridge = torch.diag(1e-13 * gramian.diagonal() + 1e-200)
    systems = pairs * (gramian + ridge) + torch.diag_embed(1 - supports)
    solution, failed = torch.linalg.solve_ex(systems, supports)  # (S, M), (S,)
    weights = solution / solution.sum(dim=1, keepdim=True)
    feasible = (failed == 0) & torch.isfinite(weights).all(dim=1) & (weights >= 0).all(dim=1)
    weights = torch.where(feasible[:, None], weights, 0.0)
    norms = torch.where(feasible, ((weights @ gramian) * weights).sum(dim=1), torch.inf)
    return weights.index_select(0, norms.argmin().view(1)).squeeze(0)


@lru_cache(maxsize=32)
def _supports(num_tasks: int, device: torch.device) -> Tensor:
    subsets = [bits for bits in itertools.product((0.0, 1.0), repeat=num_tasks) if any(bits)]
    return torch.tensor(subsets, dtype=torch.float64, device=device)


def _min_norm_by_iteration(gramian: Tensor, steps: int = 500) -> Tensor:
    """Accelerated projected gradient; momentum restarts where it points uphill (O'Donoghue & Candes, 2015)."""
    num_tasks = len(gramian)
    # Both are bounds of the largest eigenvalue.
    bound = torch.minimum(gramian.diagonal().sum(), gramian.abs().sum(dim=1).max())
    step_size = 1 / bound.clamp(min=torch.finfo(gramian.dtype).tiny)
    weights = momentum = torch.full((num_tasks,), 1 / num_tasks, dtype=gramian.dtype, device=gramian.device)
    age = torch.ones((), dtype=gramian.dtype, device=gramian.device)
    for _ in range(steps):
        following = project_to_simplex(momentum - step_size * (gramian @ momentum))
        uphill = (momentum - following) @ (following - weights) > 0
        age = torch.where(uphill, 1.0, age)
        older = (1 + (1 + 4 * age**2).sqrt()) / 2
        momentum = following + (age - 1) / older * (following - weights)
        weights, age = following, older
    return weights
