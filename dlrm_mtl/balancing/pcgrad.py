"""PCGrad (Yu et al., "Gradient Surgery for Multi-Task Learning", NeurIPS 2020)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dlrm_mtl.balancing.balancer import Balancer
from dlrm_mtl.balancing.random_order import random_orders


class PCGrad(Balancer):
    """Each task's gradient is projected, in random order, onto the normal plane of every other one it conflicts with;
    the mean of the results.

    With row i of C the coefficients of task i's projected gradient, starting at the identity::

        for j in a random order, j != i:   if (C G)_ij < 0:   C_ij <- C_ij - (C G)_ij / G_jj
        w = column means of C

    Orders are drawn from (seed, step), alike on all ranks. A task without a gradient conflicts with none.

    Args:
        seed: of the orders.
    """

    def __init__(self, num_tasks: int, seed: int = 0, task_names: Sequence[str] | None = None) -> None:
        super().__init__(num_tasks, task_names)
        self.seed = seed
        self.weights: Tensor
        self.register_task_state("weights", torch.full((num_tasks,), 1 / num_tasks, dtype=torch.float64))

    def coefficients(self, statistic: Tensor, losses: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        tasks = torch.arange(self.num_tasks, device=statistic.device)
        squares = statistic.diagonal()
        projected = torch.eye(self.num_tasks, dtype=statistic.dtype, device=statistic.device)
        orders = random_orders(self.num_tasks, self.num_tasks, self.seed, self.step)
        for other in orders.unbind(dim=1):  # (M,) the task that each row is compared with now
            product = (projected * statistic[other]).sum(dim=1)
            conflict = (product < 0) & (other != tasks)
            step = torch.where(conflict, product / torch.where(conflict, squares[other], 1.0), 0.0)
            projected = projected.scatter_add(1, other[:, None], -step[:, None])
        weights = projected.mean(dim=0)
        return weights, {"weights": weights}

    def task_weights(self) -> Tensor:
        return self.weights
