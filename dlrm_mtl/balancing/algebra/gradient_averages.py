"""Moving averages of batch-pooled gradients, for the methods that keep them."""

from dlrm_mtl.balancing.algebra.arrays import Array, namespace


def advance_averages(averages: Array, gradients: Array, share: float | Array) -> Array:
    """One step of each task's moving average. The first gradient of a task is its average; a task without a gradient in
    this step keeps it.

    Args:
        averages: (M, D) float64, zeros for a task that had no gradient yet; (M, 0) before the first step.
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
