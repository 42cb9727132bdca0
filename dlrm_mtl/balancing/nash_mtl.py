"""Nash-MTL (Navon et al., "Multi-Task Learning as a Bargaining Game", ICML 2022)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dlrm_mtl.balancing.balancer import Balancer


class NashMTL(Balancer):
    """The bargaining solution G a = 1 / a, with the weights scaled to sum to 1.

    The minimiser of the convex 0.5 a' G a - sum of log a, found by damped Newton steps in log a from a_m = 1 / |g_m|; a
    fixed number of them, so that the host waits for nothing. Invariant to each task's scale. A task without a gradient
    has weight 0. At Pareto-stationary points no solution exists: the steps then stop at large, finite ratios.
    """

    STEPS = 40
    RIDGE = 1e-10

    def __init__(self, num_tasks: int, task_names: Sequence[str] | None = None) -> None:
        super().__init__(num_tasks, task_names)
        self.weights: Tensor
        self.register_task_state("weights", torch.full((num_tasks,), 1 / num_tasks, dtype=torch.float64))

    def coefficients(self, statistic: Tensor, losses: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        norms = statistic.diagonal().clamp(min=0).sqrt()
        active = norms > 0
        safe = torch.where(active, norms, 1.0)
        identity = torch.eye(self.num_tasks, dtype=statistic.dtype, device=statistic.device)
        # With unit gradients, C b = 1 / b and a = b / norms; a silent task is one alone.
        cosines = statistic / torch.outer(safe, safe) + torch.diag((~active).double()) + self.RIDGE * identity
        shares = self._bargain(cosines, identity)
        smallest = torch.where(active, norms, torch.inf).min()
        weights = torch.where(active, shares * torch.where(active, smallest, 1.0) / safe, 0.0)
        weights = torch.nan_to_num(weights / weights.sum(), nan=1 / self.num_tasks)
        return weights, {"weights": weights}

    def task_weights(self) -> Tensor:
        return self.weights

    def _bargain(self, cosines: Tensor, identity: Tensor) -> Tensor:
        """b > 0 with C b = 1 / b. Newton on h(x) = 0.5 b' C b - sum x, b = exp(x): gradient b * (C b) - 1."""
        logarithm = torch.zeros(self.num_tasks, dtype=cosines.dtype, device=cosines.device)
        for _ in range(self.STEPS):
            share = logarithm.exp()
            pull = share * (cosines @ share)
            curvature = torch.outer(share, share) * cosines + torch.diag(pull)
            # Far from the solution, and with conflicts, the curvature is indefinite: the positive part leads downhill.
            lift = (-pull).clamp(min=0).max() + 1e-12
            step, _ = torch.linalg.solve_ex(curvature + 2 * lift * identity, 1 - pull)
            logarithm = (logarithm + step.clamp(-1, 1)).clamp(-30, 30)
        return logarithm.exp()
