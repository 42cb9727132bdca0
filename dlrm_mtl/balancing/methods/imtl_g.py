"""IMTL-G (Liu et al., "Towards Impartial Multi-task Learning", ICLR 2021)."""

from dlrm_mtl.balancing.algebra.arrays import (
    Array,
    at_least,
    cosines_of,
    floats,
    identity_like,
    namespace,
    solve,
)
from dlrm_mtl.balancing.methods.balancer import Balancer


class IMTLG(Balancer):
    """The combination with equal projections onto all unit gradients: w ~ G^-1 sqrt(diag G), summing to 1.

    Weights may be negative. Solved with unit gradients: C x = 1, w_m = x_m / |g_m|, where C holds the cosines; a
    relative ridge makes x unique for parallel gradients. A task without a gradient has weight 0.

    If the solution's sum is nearly 0, the weights explode. They are scaled down together so that none exceeds 10.
    """

    RIDGE = 1e-13
    LARGEST = 10.0

    portable = True

    def coefficients(self, statistic: Array, losses: Array | None) -> tuple[Array, dict[str, Array]]:
        xp = namespace(statistic)
        cosines, norms, active = cosines_of(statistic)
        solution, _ = solve(cosines + self.RIDGE * identity_like(cosines), floats(active))
        # Relative to the smallest norm, so that tiny gradients do not overflow.
        smallest = xp.where(active, norms, xp.inf).min()
        weights = xp.where(active, solution * xp.where(active, smallest, 1.0) / norms, 0.0)
        total = weights.sum()
        weights = xp.where(total != 0, weights / xp.where(total != 0, total, 1.0), 1 / self.num_tasks)
        weights = weights / at_least(abs(weights).max() / self.LARGEST, 1)
        return weights, {}
