"""Gradient Vaccine (Wang et al., "Gradient Vaccine: Investigating and Improving Multi-task Optimization in Massively
Multilingual Models", ICLR 2021)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dlrm_mtl.balancing.balancer import Balancer
from dlrm_mtl.balancing.options import is_number, require_option
from dlrm_mtl.balancing.random_order import random_orders


class GradVac(Balancer):
    """PCGrad with a target: a pair's cosine phi is raised to its moving average phi_hat wherever it lies below.

    For task i's current gradient g_i' and task j in a random order::

        phi = cos(g_i', g_j)
        if phi < phi_hat:  g_i' <- g_i' + g_j |g_i'| (phi_hat sqrt(1 - phi^2) - phi sqrt(1 - phi_hat^2))
                                              / (|g_j| sqrt(1 - phi_hat^2))
        phi_hat <- (1 - beta) phi_hat + beta phi

    The mean of the results. phi_hat starts at 0 (the first step is PCGrad's). The step divides by sqrt(1 - phi_hat^2),
    so phi_hat is kept below 0.999. Pairs with a task without a gradient are left alone.

    Args:
        beta: share of the newest cosine in the moving average.
        seed: of the orders.

    Raises:
        ValueError: an option out of its range.
    """

    LARGEST_TARGET = 0.999

    def __init__(
        self, num_tasks: int, beta: float = 0.01, seed: int = 0, task_names: Sequence[str] | None = None
    ) -> None:
        super().__init__(num_tasks, task_names)
        require_option(self, "beta", beta, is_number(beta) and 0 < beta <= 1, "a number in (0, 1]")
        self.beta = beta
        self.seed = seed
        self.weights: Tensor
        self.targets: Tensor
        self.register_task_state("weights", torch.full((num_tasks,), 1 / num_tasks, dtype=torch.float64))
        self.register_pair_state("targets", torch.zeros(num_tasks, num_tasks))

    def coefficients(self, statistic: Tensor, losses: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        tasks = torch.arange(self.num_tasks, device=statistic.device)
        norms = statistic.diagonal().clamp(min=0).sqrt()
        vaccinated = torch.eye(self.num_tasks, dtype=statistic.dtype, device=statistic.device)
        targets = self.targets
        orders = random_orders(self.num_tasks, self.num_tasks, self.seed, self.step)
        for other in orders.unbind(dim=1):  # (M,) the task that each row is compared with now
            row_products = vaccinated @ statistic
            row_norms = (row_products * vaccinated).sum(dim=1).clamp(min=0).sqrt()
            length = row_norms * norms[other]
            valid = (length > 0) & (other != tasks)
            product = row_products.gather(1, other[:, None]).squeeze(1)
            cosine = torch.where(valid, product / torch.where(valid, length, 1.0), 0.0).clamp(-1, 1)
            target = targets.gather(1, other[:, None]).squeeze(1)
            bounded = target.clamp(-self.LARGEST_TARGET, self.LARGEST_TARGET)
            cosine_side, target_side = (1 - cosine**2).sqrt(), (1 - bounded**2).sqrt()
            step = row_norms * (bounded * cosine_side - cosine * target_side) / target_side
            step = torch.where(valid & (cosine < target), step / torch.where(valid, norms[other], 1.0), 0.0)
            vaccinated = vaccinated.scatter_add(1, other[:, None], step[:, None])
            change = torch.where(valid, self.beta * (cosine - target), 0.0)
            targets = targets.scatter_add(1, other[:, None], change[:, None])
        weights = vaccinated.mean(dim=0)
        return weights, {"weights": weights, "targets": targets}

    def task_weights(self) -> Tensor:
        return self.weights
