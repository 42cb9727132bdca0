"""MultiBalance's step in Python's floats, for a CPU, where an operation on a tensor costs more than its M numbers.

The same formulas as :meth:`MultiBalance.coefficients`, in the same order.
"""

import math
from collections.abc import Sequence
from operator import mul
from typing import NamedTuple


class FloatStep(NamedTuple):
    """What a step leads to, of each task."""

    coefficients: list[float]
    """On the raw gradients."""
    weights: list[float]
    """lambda."""
    averages: list[float]
    """u."""


def float_step(
    gramian: Sequence[Sequence[float]],
    weights: Sequence[float],
    averages: Sequence[float],
    *,
    prior: Sequence[float],
    beta: float,
    rho: float,
    gamma: float,
    cosine: bool,
    prior_in_direction: float,
    max_rescale: float | None,
) -> FloatStep:
    """One step of M tasks. Not finite where the Gramian is not.

    Args:
        gramian: (M, M).
        weights: lambda before the step.
        averages: u before the step; 0 where there was no gradient yet.
        cosine: whether lambda follows cosines, or inner products.
        others: options of :class:`MultiBalance`.
    """
    norms = [math.sqrt(max(row[m], 0.0)) for m, row in enumerate(gramian)]
    averages = [_average(old, norm, gamma) for old, norm in zip(averages, norms, strict=True)]
    limit = math.inf if max_rescale is None else max_rescale
    rescale = [min(_ratio(*pair), limit) for pair in zip(averages, norms, strict=True)]
    mixture = [r * (w + rho * p) for r, w, p in zip(rescale, weights, prior, strict=True)]
    products = [_dot(row, mixture) for row in gramian]
    if cosine:
        length = math.sqrt(max(_dot(mixture, products), 0.0))
        # Where the gradients cancel, the length is rounding: without the bounds lambda would be thrown to a vertex.
        slope = [min(max(_ratio(p, n * length), -1.0), 1.0) for p, n in zip(products, norms, strict=True)]
    else:
        slope = [r * p for r, p in zip(rescale, products, strict=True)]
    weights = _project([w - beta * s for w, s in zip(weights, slope, strict=True)])
    directed = [r * (w + prior_in_direction * p) for r, w, p in zip(rescale, weights, prior, strict=True)]
    return FloatStep(directed, weights, averages)


def _average(old: float, norm: float, gamma: float) -> float:
    if norm == 0:
        return old
    if old == 0:
        return norm
    # As torch.lerp: exact at both ends.
    return old + gamma * (norm - old) if gamma < 0.5 else norm - (1 - gamma) * (norm - old)


def _ratio(dividend: float, divisor: float) -> float:
    """0 where there is nothing to divide by, or the quotient is beyond float64."""
    quotient = dividend / divisor if divisor else 0.0
    return 0.0 if math.isinf(quotient) else quotient


def _dot(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(map(mul, left, right))


def _project(vector: Sequence[float]) -> list[float]:
    """See :func:`dlrm_mtl.balancing.simplex.project_to_simplex`."""
    total, threshold = -1.0, -math.inf
    for count, value in enumerate(sorted(vector, reverse=True), 1):
        total += value
        threshold = max(threshold, total / count)
    return [max(value - threshold, 0.0) for value in vector]
