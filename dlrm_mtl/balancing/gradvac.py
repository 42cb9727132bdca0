"""Gradient Vaccine (Wang et al., "Gradient Vaccine: Investigating and Improving Multi-task Optimization in Massively
Multilingual Models", ICLR 2021)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dlrm_mtl.balancing.balancer import Balancer
from dlrm_mtl.balancing.options import is_number, require_option
from dlrm_mtl.balancing.random_order import random_partners


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
        identity = torch.eye(self.num_tasks, dtype=statistic.dtype, device=statistic.device)
        norms = statistic.diagonal().clamp(min=0).sqrt()
        active = norms > 0
        safe = torch.where(active, norms, 1.0)
        cosines = statistic / torch.outer(safe, safe)
        partners = random_partners(self.num_tasks, self.seed, self.step)  # (M, M - 1)
        targets = self.targets.gather(1, partners).clamp(-self.LARGEST_TARGET, self.LARGEST_TARGET)
        slopes = targets / (1 - targets**2).sqrt()
        positions = identity[partners] * active[partners, None]  # (M, M - 1, M)
        vaccinated = identity  # row i: coefficients on unit gradients, in units of |g_i|
        seen = []
        for slope, position in zip(slopes.split(1, dim=1), positions.unbind(dim=1), strict=True):
            products = vaccinated @ cosines
            square = (products * vaccinated).sum(dim=1, keepdim=True)  # |g_i'|^2
            product = (products * position).sum(dim=1, keepdim=True)  # |g_i'| phi
            seen.append(product / square.clamp(min=self.VANISHED).sqrt() * (square > self.VANISHED))
            # Positive just where phi lies below its target.
            step = torch.addcmul(-product, slope, torch.addcmul(square, product, product, value=-1).clamp(min=0).sqrt())
            vaccinated = torch.addcmul(vaccinated, step.clamp(min=0), position)
        weights = torch.where(active, norms @ vaccinated / safe, 0.0) / self.num_tasks
        return weights, {"weights": weights, "targets": self._averaged(partners, seen, active)}

    def task_weights(self) -> Tensor:
        return self.weights
