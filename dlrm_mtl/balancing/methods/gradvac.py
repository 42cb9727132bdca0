"""Gradient Vaccine (Wang et al., "Gradient Vaccine: Investigating and Improving Multi-task Optimization in Massively
Multilingual Models", ICLR 2021)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dlrm_mtl.balancing.algebra.arrays import (
    Array,
    at_least,
    at_most,
    identity_like,
    like,
    namespace,
    norms_of,
)
from dlrm_mtl.balancing.algebra.random_order import random_partners
from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.options import is_number, require_option, require_seed


class GradVac(Balancer):
    """PCGrad with a target: where a pair's cosine phi is below its moving average phi_hat, it is raised to it.

    For task i's current gradient g_i' and task j in a random order::

        phi = cos(g_i', g_j)
        if phi < phi_hat:  g_i' <- g_i' + g_j |g_i'| (phi_hat sqrt(1 - phi^2) - phi sqrt(1 - phi_hat^2))
                                              / (|g_j| sqrt(1 - phi_hat^2))
        phi_hat <- (1 - beta) phi_hat + beta phi

    The result is the mean of all g_i'. phi_hat starts at 0, so the first step is PCGrad's. The step divides by
    sqrt(1 - phi_hat^2), so phi_hat is bounded by 0.999. Pairs with a task without a gradient are skipped.

    Args:
        beta: share of the newest cosine in the moving average.
        seed: of the orders.

    Raises:
        ValueError: an option out of its range.
    """

    LARGEST_TARGET = 0.999
    VANISHED = 1e-14
    """At this share of |g_i|^2, |g_i'|^2 is a rounding error, without a direction."""

    portable = True

    def __init__(
        self, num_tasks: int, beta: float = 0.01, seed: int = 0, task_names: Sequence[str] | None = None
    ) -> None:
        super().__init__(num_tasks, task_names)
        require_option(self, "beta", beta, is_number(beta) and 0 < beta <= 1, "a number in (0, 1]")
        require_seed(self, seed)
        self.beta = beta
        self.seed = seed
        self.targets: Tensor
        self.register_pair_state("targets", torch.zeros(num_tasks, num_tasks, device="cpu"))

    def coefficients(self, statistic: Array, losses: Array | None) -> tuple[Array, dict[str, Array]]:
        xp, identity = namespace(statistic), identity_like(statistic)
        norms, before = norms_of(statistic), like(statistic, self.targets)
        active = norms > 0
        safe = xp.where(active, norms, 1.0)
        cosines = statistic / xp.outer(safe, safe)
        partners = random_partners(self.num_tasks, self.seed, like(statistic, self.step))  # (M, M - 1)
        positions = identity[partners]  # (M, M - 1, M)
        targets = (positions * before[:, None, :]).sum(axis=2)  # of each partner in turn
        bounded = at_most(at_least(targets, -self.LARGEST_TARGET), self.LARGEST_TARGET)
        slopes = bounded / xp.sqrt(1 - bounded**2)
        vaccinated = identity  # row i: coefficients of g_i' / |g_i| on the unit gradients
        squares, inner = [], []
        for turn in range(self.num_tasks - 1):
            position = positions[:, turn]
            products = vaccinated @ cosines
            square = (products * vaccinated).sum(axis=1, keepdims=True)  # |g_i'|^2
            product = (products * position).sum(axis=1, keepdims=True)  # |g_i'| phi
            squares.append(square)
            inner.append(product)
            # Positive where phi is below its target.
            height = xp.sqrt(at_least(square - product * product, 0))
            step = at_least(slopes[:, turn, None] * height - product, 0)
            vaccinated = vaccinated + step * position
        weights = xp.where(active, norms @ vaccinated / safe, 0.0) / self.num_tasks
        state: dict[str, Array] = {}
        if squares:  # there are pairs
            square = xp.concatenate(squares, axis=1)
            phi = at_most(at_least(xp.concatenate(inner, axis=1) / xp.sqrt(at_least(square, self.VANISHED)), -1), 1)
            valid = (square > self.VANISHED) & active[:, None] & active[partners]
            moved = xp.where(valid, (1 - self.beta) * targets + self.beta * phi, targets)
            state["targets"] = (positions * moved[:, :, None]).sum(axis=1) + identity * before
        return weights, state
