"""Nash-MTL (Navon et al., "Multi-Task Learning as a Bargaining Game", ICML 2022)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.options import uniform_weights


class NashMTL(Balancer):
    """The bargaining solution a > 0 of G a = 1 / a, with the weights scaled to sum to 1.

    The minimiser of the convex 0.5 a' G a - sum of log a, found by damped Newton steps; a fixed number of them, so that
    the host waits for nothing. Invariant to each task's scale. A task without a gradient has weight 0. At
    Pareto-stationary points no solution exists: the steps end at finite weights of a combination that nearly vanishes.
    """

    STEPS = 16
    """Gradients in general position or opposed pairwise take 5; three or more that nearly cancel, to 0.1 %, take 12."""

    CANCELLED = 1e-14
    """Where unit gradients cancel to this, squared, rounding is all that is left."""

    capturable = True

    def __init__(self, num_tasks: int, task_names: Sequence[str] | None = None) -> None:
        super().__init__(num_tasks, task_names)
        self.weights: Tensor
        self.register_task_state("weights", uniform_weights(num_tasks))

    def coefficients(self, statistic: Tensor, losses: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        norms = statistic.diagonal().clamp(min=0).sqrt()
        active = norms > 0
        safe = torch.where(active, norms, 1.0)
        # With unit gradients, C b = 1 / b and a = b / norms; a silent task is alone.
        cosines = statistic / torch.outer(safe, safe) + torch.diag((~active).double())
        smallest = torch.where(active, norms, torch.inf).min()  # or tiny gradients would overflow
        weights = torch.where(active, self._bargain(cosines) * smallest / safe, 0.0)
        weights = torch.nan_to_num(weights / weights.sum(), nan=1 / self.num_tasks)
        return weights, {"weights": weights}

    def task_weights(self) -> Tensor:
        return self.weights

    def _bargain(self, cosines: Tensor) -> Tensor:
        """b > 0 with C b = 1 / b.

        The Newton step of 0.5 b' C b - sum of log b is -b * y with y = 1 - 2 z, (I + diag(b) C diag(b)) z = 1. Taken
        1 / (1 + max(y, 0)) of the way it never leaves b > 0 and always descends: the quadratic part is exact, and
        -log(1 - s) <= s + s^2 / (2 (1 - max s)). Near the solution y vanishes, and the steps are Newton's.
        """
        ones = torch.ones_like(cosines[0])
        identity = torch.diag(ones)
        # Each task's share in a bargain with its strongest opponent alone, then the best multiple of these.
        shares = (1 + cosines.amin(dim=1)).clamp(min=self.CANCELLED).rsqrt()
        shares = shares * (len(ones) / (shares @ cosines @ shares).clamp(min=self.CANCELLED)).sqrt()
        for _ in range(self.STEPS):
            system = torch.addcmul(identity, cosines * shares, shares[:, None])
            z, _ = torch.linalg.solve_ex(system, ones)
            excess = (0.5 - z.min()).clamp(min=0)  # max(y, 0) / 2
            shares = shares * (z + excess) / (0.5 + excess)
        return shares
