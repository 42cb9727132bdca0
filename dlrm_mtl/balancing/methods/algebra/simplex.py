"""The probability simplex: projection and min-norm point. On device, with a fixed amount of work: no host sync."""

import itertools
from functools import cache

import torch
from torch import Tensor

MAX_ENUMERATED_TASKS = 8
"""Up to this many tasks the min-norm point enumerates all supports (255 systems of size 8); beyond, it iterates."""


def project_to_simplex(vector: Tensor) -> Tensor:
    """Euclidean projection onto the probability simplex (Duchi et al., ICML 2008, figure 1).

    Args:
        vector: (M,); minus infinity where an entry is to be 0, but not everywhere.

    Returns:
        (M,) the nearest point with non-negative entries that sum to 1.
    """
    descending = vector.sort(descending=True).values
    # With the k largest entries in the support, this is what brings their sum to 1; the right k maximises it.
    thresholds = (descending.cumsum(0) - 1) / _counts(len(vector), vector.dtype, vector.device)
    return (vector - thresholds.max()).relu_()


@cache  # never dropped: CUDA graphs read it
def _counts(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.arange(1, size + 1, dtype=dtype, device=device)


def min_norm_point(gramian: Tensor, active: Tensor | None = None) -> Tensor:
    """Weights of the smallest convex combination of M gradients: argmin over the simplex of w' G w (equation 2 of
    the paper; MGDA).

    Args:
        gramian: (M, M) inner products of the gradients, any scale, finite.
        active: (M,) bool, tasks that may have weight; all by default. Uniform weights if none may.

    Returns:
        (M,) weights on the simplex, in float64.
    """
    return simplex_minimum(gramian, torch.zeros_like(gramian[0]), active)


def simplex_minimum(gramian: Tensor, linear: Tensor, active: Tensor | None = None) -> Tensor:
    """argmin over the simplex of w' G w + 2 q' w, for a positive semi-definite G.

    Exact up to rounding for M <= 8, by solving the optimality system of every support at once; for more tasks, a
    fixed number of accelerated projected-gradient steps.

    Args:
        gramian: (M, M), any scale, finite.
        linear: (M,) q, in the Gramian's units.
        active: (M,) bool, tasks that may have weight; all by default. Uniform weights if none may.

    Returns:
        (M,) weights on the simplex, in float64.
    """
    gramian, linear = gramian.double(), linear.double()
    if active is None:
        active = torch.ones_like(linear, dtype=torch.bool)
    scale = gramian.diagonal().max().clamp(min=torch.finfo(gramian.dtype).tiny)
    solve = _minimum_by_enumeration if len(gramian) <= MAX_ENUMERATED_TASKS else _minimum_by_iteration
    weights = solve(gramian / scale, linear / scale, active)
    return torch.where(active.any(), weights, 1 / len(gramian))


def task_supports(num_tasks: int, device: torch.device) -> Tensor:
    """(2^M - 1, M) float64: every non-empty set of tasks, 1.0 for its members."""
    return _support_tables(num_tasks, device)[0]


def support_systems(gramian: Tensor) -> Tensor:
    """(S, M, M) the Gramian of each support's tasks, the identity elsewhere, so that all can be solved at once.

    A ridge decides between duplicate gradients. It is relative to each task's own norm, or it would outweigh the small
    ones; its constant is for zero gradients.
    """
    _, pairs, others = _support_tables(len(gramian), gramian.device)
    ridge = torch.diag(1e-13 * gramian.diagonal() + 1e-200)
    return torch.addcmul(others, pairs, gramian + ridge)


def best_candidate(candidates: Tensor, objective: Tensor, feasible: Tensor) -> Tensor:
    """(M,) the feasible row of the (S, M) candidates with the smallest objective (S,); without a host sync."""
    objective = torch.where(feasible & torch.isfinite(objective), objective, torch.inf)
    return candidates.index_select(0, objective.argmin().view(1)).squeeze(0)


def _minimum_by_enumeration(gramian: Tensor, linear: Tensor, active: Tensor) -> Tensor:
    supports = task_supports(len(gramian), gramian.device)  # (S, M)
    # Inside a support G w = mu 1 - q; outside w = 0.
    sides = torch.stack([supports, supports * linear], dim=2)  # (S, M, 2)
    solution, failed = torch.linalg.solve_ex(support_systems(gramian), sides)
    to_ones, to_linear = solution.unbind(dim=2)
    multiplier = (1 + to_linear.sum(dim=1)) / to_ones.sum(dim=1)  # (S,)
    weights = torch.addcmul(-to_linear, multiplier[:, None], to_ones)
    weights = weights / weights.sum(dim=1, keepdim=True)  # 1 up to rounding, which near-duplicates magnify
    feasible = (failed == 0) & (weights >= 0).all(dim=1) & (supports @ (~active).double() == 0)
    objective = ((weights @ gramian + 2 * linear) * weights).sum(dim=1)
    return best_candidate(weights, objective, feasible)


@cache  # never dropped: CUDA graphs read it
def _support_tables(num_tasks: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Per support: its members (S, M), the pairs of them (S, M, M), and the identity on the others (S, M, M)."""
    subsets = [bits for bits in itertools.product((0.0, 1.0), repeat=num_tasks) if any(bits)]
    members = torch.tensor(subsets, dtype=torch.float64, device=device)
    return members, members[:, :, None] * members[:, None, :], torch.diag_embed(1 - members)


def _minimum_by_iteration(gramian: Tensor, linear: Tensor, active: Tensor, steps: int = 500) -> Tensor:
    """Accelerated projected gradient; momentum restarts where it points uphill (O'Donoghue & Candes, 2015)."""
    # Both are bounds of the largest eigenvalue.
    bound = torch.minimum(gramian.diagonal().sum(), gramian.abs().sum(dim=1).max())
    step_size = 1 / bound.clamp(min=torch.finfo(gramian.dtype).tiny)
    weights = momentum = active.double() / active.sum()
    age = torch.ones((), dtype=gramian.dtype, device=gramian.device)
    for _ in range(steps):
        target = momentum - step_size * (gramian @ momentum + linear)
        following = project_to_simplex(torch.where(active, target, -torch.inf))
        uphill = (momentum - following) @ (following - weights) > 0
        age = torch.where(uphill, 1.0, age)
        older = (1 + (1 + 4 * age**2).sqrt()) / 2
        momentum = following + (age - 1) / older * (following - weights)
        weights, age = following, older
    return weights
