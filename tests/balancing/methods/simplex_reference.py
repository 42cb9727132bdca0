"""The nearest point of a convex hull to the origin, on explicit vectors: non-negative least squares."""

import numpy as np
from scipy.optimize import nnls

from tests.balancing.reference import Array


def nearest_weights(rows: Array) -> Array:
    """argmin over the simplex of |sum of w_m h_m|, (M,).

    min over x >= 0 of |sum of x_m h_m|^2 + (sum of x - 1)^2 has its minimum at a multiple of w: for a fixed sum, it is
    the same problem. An active-set method on the vectors themselves, never on their inner products.
    """
    scale = np.linalg.norm(rows, axis=1).min() or 1.0
    system = np.vstack([rows.T / scale, np.ones(len(rows))])
    side = np.zeros(len(system))
    side[-1] = 1
    actual, _ = nnls(system, side, maxiter=1000)
    weights: Array = actual / actual.sum()
    return weights


def assert_as_short(weights: Array, rows: Array, tolerance: float = 1e-8) -> None:
    """The combination is on the simplex, and no longer than the reference's by more than the tolerance of it, or by
    rounding of the Gramian."""
    assert (weights >= 0).all()
    assert abs(weights.sum() - 1) <= 1e-12
    best = np.linalg.norm(nearest_weights(rows) @ rows)
    slack = tolerance * best + 1e-9 * np.linalg.norm(rows, axis=1).min()
    assert np.linalg.norm(weights @ rows) <= best + slack
