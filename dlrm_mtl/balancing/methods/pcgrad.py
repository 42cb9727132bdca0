"""PCGrad (Yu et al., "Gradient Surgery for Multi-Task Learning", NeurIPS 2020)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dlrm_mtl.balancing.methods.algebra.random_order import random_partners
from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.options import require_seed, uniform_weights


class PCGrad(Balancer):
    """Each task's gradient is projected, in random order, onto the normal plane of every other one it conflicts with;
    the mean of the results.

    With row i of C the coefficients of task i's projected gradient, starting at the identity::

        for j in a random order, j != i:   if (C G)_ij < 0:   C_ij <- C_ij - (C G)_ij / G_jj
        w = column means of C

    Orders are drawn from (seed, step), alike on all ranks. A task without a gradient conflicts with none.

    Args:
        seed: of the orders.

    Raises:
        ValueError: a seed that is no non-negative integer below 2^31.
    """

    capturable = True

    def __init__(self, num_tasks: int, seed: int = 0, task_names: Sequence[str] | None = None) -> None:
        super().__init__(num_tasks, task_names)
        require_seed(self, seed)
        self.seed = seed
        self.weights: Tensor
        self.register_task_state("weights", uniform_weights(num_tasks))

    def coefficients(self, statistic: Tensor, losses: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        identity = torch.eye(self.num_tasks, dtype=statistic.dtype, device=statistic.device)
        partners = random_partners(self.num_tasks, self.seed, self.step)  # (M, M - 1)
        # <g, g_j> / G_jj is linear in g's coefficients; a silent g_j has zeros here.
        squares = statistic.diagonal().clamp(min=torch.finfo(statistic.dtype).tiny)
        slopes = (statistic / squares[:, None])[partners]  # (M, M - 1, M)
        positions = identity[partners]
        projected = identity
        for slope, position in zip(slopes.unbind(dim=1), positions.unbind(dim=1), strict=True):
            conflict = (projected * slope).sum(dim=1, keepdim=True).clamp(max=0)
            projected = torch.addcmul(projected, conflict, position, value=-1)
        weights = projected.mean(dim=0)
        return weights, {"weights": weights}

    def task_weights(self) -> Tensor:
        return self.weights
