"""Moving averages of batch-pooled gradients, and of norms."""

from dlrm_mtl.balancing.algebra.arrays import Array, at_least, namespace


def advance_averages(averages: Array, gradients: Array, share: float | Array) -> Array:
    """One step of each task's moving average, which starts at the task's first gradient. A task without a gradient
    keeps its average.

    Args:
        averages: (M, D) float64, zeros for a task that has had no gradient; (M, 0) before the first step.
        gradients: (M, D) float64; (M, 0) where no task had a gradient.
        share: of the new gradient.
    """
    xp = namespace(gradients)
    if gradients.shape[1] == 0:
        return averages
    if averages.shape[1] == 0:
        return gradients
    started = (averages != 0).any(axis=1, keepdims=True)
    silent = (gradients == 0).all(axis=1, keepdims=True)
    moved = xp.where(started, (1 - share) * averages + share * gradients, gradients)
    return xp.where(silent, averages, moved)


def advance_norms(averages: Array, norms: Array, share: float) -> Array:
    """One step of each task's moving average of its norm, which starts at the task's first gradient. A task without a
    gradient keeps its average.

    Args:
        averages: (M,) 0 for a task that has had no gradient.
        norms: (M,)
        share: of the new norm.
    """
    xp = namespace(norms)
    moved = (1 - share) * averages + share * norms
    return xp.where(norms > 0, xp.where(averages > 0, moved, norms), averages)


def advance_unbiased_norms(averages: Array, filled: Array, norms: Array, share: float) -> tuple[Array, Array]:
    """One step of each task's moving average of its norm, which starts at 0 and is divided by the total weight of the
    norms so far. A task without a gradient keeps both.

    Args:
        averages: (M,) after the division.
        filled: (M,) the total weight, 1 - (1 - share)^k after k gradients.
        norms: (M,)
        share: of the new norm.

    Returns:
        (M,) averages and (M,) total weights.
    """
    xp = namespace(norms)
    filled = xp.where(norms > 0, filled + share * (1 - filled), filled)
    moved = averages + share / at_least(filled, share) * (norms - averages)
    return xp.where(norms > 0, moved, averages), filled


def first_norm(averages: Array) -> Array:
    """0-d: the norm of the first task that has had a gradient; 0 if there is none."""
    xp = namespace(averages)
    started = averages > 0
    return xp.where(started & (started.cumsum(0) == 1), averages, 0.0).sum()
