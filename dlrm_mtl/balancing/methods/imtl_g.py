"""IMTL-G (Liu et al., "Towards Impartial Multi-task Learning", ICLR 2021)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.options import uniform_weights


class IMTLG(Balancer):
    """The combination with equal projections onto all unit gradients: w ~ G^-1 sqrt(diag G), summing to 1.

    Weights may be negative. Solved with unit gradients: C x = 1, w_m = x_m / |g_m|, where C holds the cosines; a
    relative ridge decides between parallel gradients. A task without a gradient has weight 0.

    Where the solution's sum is nearly 0, the weights explode: they are scaled down together until none exceeds 10.
    """

    RIDGE = 1e-13
    LARGEST = 10.0

    capturable = True

    def __init__(self, num_tasks: int, task_names: Sequence[str] | None = None) -> None:
        super().__init__(num_tasks, task_names)
        self.weights: Tensor
        self.register_task_state("weights", uniform_weights(num_tasks))

    def coefficients(self, statistic: Tensor, losses: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        norms = statistic.diagonal().clamp(min=0).sqrt()
        active = norms > 0
        safe = torch.where(active, norms, 1.0)
        cosines = statistic / torch.outer(safe, safe) + torch.diag((~active).double())
        identity = torch.eye(len(norms), dtype=statistic.dtype, device=statistic.device)
        solution, _ = torch.linalg.solve_ex(cosines + self.RIDGE * identity, active.double())
        # Relative to the smallest norm, so that tiny gradients do not overflow.
        smallest = torch.where(active, norms, torch.inf).min()
        weights = torch.where(active, solution * torch.where(active, smallest, 1.0) / safe, 0.0)
        total = weights.sum()
        weights = torch.where(total != 0, weights / torch.where(total != 0, total, 1.0), 1 / self.num_tasks)
        weights = weights / (weights.abs().max() / self.LARGEST).clamp(min=1)
        return weights, {"weights": weights}

    def task_weights(self) -> Tensor:
        return self.weights
