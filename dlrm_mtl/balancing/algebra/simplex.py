"""Projection and min-norm point on the probability simplex, by a fixed amount of work without host synchronisation."""

import itertools
from functools import cache

import numpy as np
import torch
from torch import Tensor

from dlrm_mtl.balancing.algebra.arrays import (
    Array,
    at_least,
    counts,
    descending,
    floats,
    like,
    namespace,
    ratio,
    seen_on_host,
    solve,
)

MAX_ENUMERATED_TASKS = 8
"""Most tasks for which all supports are enumerated (255 systems of size 8); with more, the solver iterates."""

TINY = float(np.finfo(np.float64).tiny)


def project_to_simplex(vector: Array) -> Array:
    """Euclidean projection onto the probability simplex (Duchi et al., ICML 2008, figure 1).

    Args:
        vector: (M,); minus infinity forces an entry to 0. At least one must be finite.

    Returns:
        (M,) the nearest point with non-negative entries that sum to 1.
    """
    # For the k largest entries as support, the threshold that brings their sum to 1; the right k maximises it.
    thresholds = (descending(vector).cumsum(0) - 1) / counts(vector)
    return at_least(vector - thresholds.max(), 0)


def softmax(logits: Array, active: Array) -> Array:
    """(M,) the softmax over the active tasks, (M,) bool; 0 for the others, and for all if none is active."""
    xp = namespace(logits)
    largest = xp.where(active, logits, -xp.inf).max()
    powers = xp.where(active, xp.exp(logits - largest), 0.0)
    return ratio(powers, powers.sum())


def min_norm_point(gramian: Array, active: Array | None = None) -> Array:
    """Weights of the smallest convex combination of M gradients: argmin over the simplex of w' G w (equation 2 of
    the paper; MGDA).

    Args:
        gramian: (M, M) inner products of the gradients, any scale, finite.
        active: (M,) bool, tasks that may have weight; all by default. Uniform weights if none may.

    Returns:
        (M,) weights on the simplex, in float64.
    """
    return simplex_minimum(gramian, namespace(gramian).zeros_like(gramian[0]), active)


def simplex_minimum(gramian: Array, linear: Array, active: Array | None = None) -> Array:
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
    xp = namespace(gramian)
    gramian, linear = floats(gramian), floats(linear)
    if active is None:
        active = xp.ones_like(linear, dtype=xp.bool_ if xp is np else xp.bool)
    scale = at_least(gramian.diagonal().max(), TINY)
    minimum = _minimum_by_enumeration if len(gramian) <= MAX_ENUMERATED_TASKS else _minimum_by_iteration
    weights = minimum(gramian / scale, linear / scale, active)
    return xp.where(active.any(), weights, 1 / len(gramian))


def task_supports(gramian: Array) -> Array:
    """(2^M - 1, M) float64: every non-empty set of tasks, 1.0 for its members."""
    return like(gramian, _support_tables(len(gramian), _device(gramian))[0])


def support_systems(gramian: Array) -> Array:
    """(S, M, M) the Gramian of each support's tasks, the identity elsewhere, so that one call solves all.

    A ridge makes the solution unique for duplicate gradients. It is relative to each task's norm; the constant is for
    zero gradients.
    """
    _, pairs, others = _support_tables(len(gramian), _device(gramian))
    ridge = namespace(gramian).diag(1e-13 * gramian.diagonal() + 1e-200)
    return like(gramian, others) + like(gramian, pairs) * (gramian + ridge)


def best_candidate(candidates: Array, objective: Array, feasible: Array) -> Array:
    """(M,) the feasible row of the (S, M) candidates with the smallest objective (S,)."""
    xp = namespace(candidates)
    objective = xp.where(feasible & xp.isfinite(objective), objective, xp.inf)
    if xp is np:
        return candidates[objective.argmin()]
    return candidates.index_select(0, objective.argmin().view(1)).squeeze(0)


def _minimum_by_enumeration(gramian: Array, linear: Array, active: Array) -> Array:
    xp = namespace(gramian)
    supports = task_supports(gramian)  # (S, M)
    # Inside a support G w = mu 1 - q; outside w = 0.
    right_sides = xp.stack([supports, supports * linear], axis=2)  # (S, M, 2)
    solution, failed = solve(support_systems(gramian), right_sides)
    to_ones, to_linear = solution[:, :, 0], solution[:, :, 1]
    multiplier = (1 + to_linear.sum(axis=1)) / to_ones.sum(axis=1)  # (S,)
    weights = multiplier[:, None] * to_ones - to_linear
    weights = weights / weights.sum(axis=1, keepdims=True)  # corrects rounding, which near-duplicates magnify
    feasible = (failed == 0) & (weights >= 0).all(axis=1) & (supports @ floats(~active) == 0)
    objective = ((weights @ gramian + 2 * linear) * weights).sum(axis=1)
    return best_candidate(weights, objective, feasible)


def _device(gramian: Array) -> torch.device:
    return torch.device("cpu") if isinstance(gramian, np.ndarray) else gramian.device


@cache  # kept for good, since CUDA graphs read it
def _support_tables(num_tasks: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Per support: its members (S, M), the pairs of them (S, M, M), and the identity on the others (S, M, M)."""
    subsets = [bits for bits in itertools.product((0.0, 1.0), repeat=num_tasks) if any(bits)]
    members = torch.tensor(subsets, dtype=torch.float64, device=device)
    return members, members[:, :, None] * members[:, None, :], torch.diag_embed(1 - members)


def _minimum_by_iteration(gramian: Array, linear: Array, active: Array, steps: int = 500) -> Array:
    """Accelerated projected gradient; momentum restarts where it points uphill (O'Donoghue & Candes, 2015)."""
    xp = namespace(gramian)
    # Both are bounds of the largest eigenvalue.
    bound = xp.minimum(gramian.diagonal().sum(), abs(gramian).sum(axis=1).max())
    step_size = 1 / at_least(bound, TINY)
    weights = momentum = floats(active) / active.sum()
    age = xp.ones_like(step_size)
    for _ in range(steps):
        target = momentum - step_size * (gramian @ momentum + linear)
        following = project_to_simplex(xp.where(active, target, -xp.inf))
        uphill = (momentum - following) @ (following - weights) > 0
        age = xp.where(uphill, 1.0, age)
        older = (1 + xp.sqrt(1 + 4 * age**2)) / 2
        momentum = following + (age - 1) / older * (following - weights)
        converged = (following == weights).all()
        weights, age = following, older
        if seen_on_host(converged):
            break
    return weights
