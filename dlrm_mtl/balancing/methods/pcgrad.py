"""PCGrad (Yu et al., "Gradient Surgery for Multi-Task Learning", NeurIPS 2020)."""

from collections.abc import Sequence

from dlrm_mtl.balancing.algebra.arrays import Array, at_least, at_most, identity_like, like
from dlrm_mtl.balancing.algebra.random_order import random_partners
from dlrm_mtl.balancing.algebra.simplex import TINY
from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.options import require_seed


class PCGrad(Balancer):
    """The mean of the gradients, each projected, in random order, onto the normal plane of every other gradient that it
    conflicts with.

    With row i of C the coefficients of task i's projected gradient, starting at the identity::

        for j in a random order, j != i:   if (C G)_ij < 0:   C_ij <- C_ij - (C G)_ij / G_jj
        w = column means of C

    Orders follow from (seed, step), the same on all ranks. A task without a gradient conflicts with none.

    Args:
        seed: of the orders.

    Raises:
        ValueError: the seed is not an integer in [0, 2^31).
    """

    portable = True

    def __init__(self, num_tasks: int, seed: int = 0, task_names: Sequence[str] | None = None) -> None:
        super().__init__(num_tasks, task_names)
        require_seed(self, seed)
        self.seed = seed

    def coefficients(self, statistic: Array, losses: Array | None) -> tuple[Array, dict[str, Array]]:
        identity = identity_like(statistic)
        partners = random_partners(self.num_tasks, self.seed, like(statistic, self.step))  # (M, M - 1)
        # <g, g_j> / G_jj is linear in g's coefficients; a silent g_j has zeros here.
        squares = at_least(statistic.diagonal(), TINY)
        slopes = (statistic / squares[:, None])[partners]  # (M, M - 1, M)
        positions = identity[partners]
        projected = identity
        for turn in range(self.num_tasks - 1):
            conflict = at_most((projected * slopes[:, turn]).sum(axis=1, keepdims=True), 0)
            projected = projected - conflict * positions[:, turn]
        weights = projected.mean(axis=0)
        return weights, {}
