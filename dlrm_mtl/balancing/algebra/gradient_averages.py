"""Moving averages of batch-pooled gradients."""

from dlrm_mtl.balancing.algebra.arrays import Array, namespace


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
