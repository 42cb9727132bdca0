"""Gradient Vaccine (Wang et al., "Gradient Vaccine: Investigating and Improving Multi-task Optimization in Massively
Multilingual Models", ICLR 2021)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dlrm_mtl.balancing.methods.algebra.random_order import random_partners
from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.options import is_number, require_option, require_seed, uniform_weights


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
    VANISHED = 1e-14
    """Where |g_i'|^2 has fallen to this share of |g_i|^2, rounding is all that is left: it has no direction."""

    capturable = True

    def __init__(
        self, num_tasks: int, beta: float = 0.01, seed: int = 0, task_names: Sequence[str] | None = None
    ) -> None:
        super().__init__(num_tasks, task_names)
        require_option(self, "beta", beta, is_number(beta) and 0 < beta <= 1, "a number in (0, 1]")
        require_seed(self, seed)
        self.beta = beta
        self.seed = seed
        self.weights: Tensor
        self.targets: Tensor
        self.register_task_state("weights", uniform_weights(num_tasks))
        self.register_pair_state("targets", torch.zeros(num_tasks, num_tasks, device="cpu"))

    def coefficients(self, statistic: Tensor, losses: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        identity = torch.eye(self.num_tasks, dtype=statistic.dtype, device=statistic.device)
        norms = statistic.diagonal().clamp(min=0).sqrt()
        active = norms > 0
        safe = torch.where(active, norms, 1.0)
        cosines = statistic / torch.outer(safe, safe)
        partners = random_partners(self.num_tasks, self.seed, self.step)  # (M, M - 1)
        positions = identity[partners]  # (M, M - 1, M)
        targets = self.targets.gather(1, partners)
        bounded = targets.clamp(-self.LARGEST_TARGET, self.LARGEST_TARGET)
        slopes = bounded / (1 - bounded**2).sqrt()
        vaccinated = identity  # row i: coefficients of g_i' / |g_i| on the unit gradients
        squares, inner = [], []
        for slope, position in zip(slopes[:, :, None].unbind(dim=1), positions.unbind(dim=1), strict=True):
            products = vaccinated @ cosines
            square = (products * vaccinated).sum(dim=1, keepdim=True)  # |g_i'|^2
            product = (products * position).sum(dim=1, keepdim=True)  # |g_i'| phi
            squares.append(square)
            inner.append(product)
            # Positive just where phi lies below its target.
            height = torch.addcmul(square, product, product, value=-1).clamp(min=0).sqrt()
            step = torch.addcmul(-product, slope, height).clamp(min=0)
            vaccinated = torch.addcmul(vaccinated, step, position)
        weights = torch.where(active, norms @ vaccinated / safe, 0.0) / self.num_tasks
        state = {"weights": weights}
        if squares:  # there are pairs
            square = torch.cat(squares, dim=1)
            phi = (torch.cat(inner, dim=1) / square.clamp(min=self.VANISHED).sqrt()).clamp(-1, 1)
            valid = (square > self.VANISHED) & active[:, None] & active[partners]
            moved = torch.where(valid, torch.lerp(targets, phi, self.beta), targets)
            state["targets"] = self.targets.scatter(1, partners, moved)
        return weights, state

    def task_weights(self) -> Tensor:
        return self.weights
