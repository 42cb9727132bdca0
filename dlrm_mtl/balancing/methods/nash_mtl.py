"""Nash-MTL (Navon et al., "Multi-Task Learning as a Bargaining Game", ICML 2022)."""

from dlrm_mtl.balancing.algebra.arrays import (
    Array,
    at_least,
    cosines_of,
    namespace,
    seen_on_host,
    solve,
)
from dlrm_mtl.balancing.methods.balancer import Balancer


class NashMTL(Balancer):
    """The bargaining solution a > 0 of G a = 1 / a, with the weights scaled to sum to 1.

    It minimises the convex 0.5 a' G a - sum of log a, by a fixed number of damped Newton steps, so that the host does
    not wait. Invariant to each task's scale. A task without a gradient has weight 0. At Pareto-stationary points no
    solution exists: the result is finite weights of a combination that nearly vanishes.
    """

    STEPS = 16
    """5 are enough for most gradients; three or more that cancel to 0.1 % take 12."""

    CONVERGED = 1e-14
    """Relative change of the shares below which further steps change nothing."""

    CANCELLED = 1e-14
    """Squared length of a sum of unit gradients that is a rounding error."""

    portable = True

    def coefficients(self, statistic: Array, losses: Array | None) -> tuple[Array, dict[str, Array]]:
        xp = namespace(statistic)
        cosines, norms, active = cosines_of(statistic)  # C b = 1 / b, and a = b / norms
        smallest = xp.where(active, norms, xp.inf).min()  # so that tiny gradients do not overflow
        weights = xp.where(active, self._bargain(cosines) * smallest / norms, 0.0)
        total = weights.sum()
        weights = xp.where(total > 0, weights / total, 1 / self.num_tasks)
        return weights, {}

    def _bargain(self, cosines: Array) -> Array:
        """b > 0 with C b = 1 / b.

        The Newton step of 0.5 b' C b - sum of log b is -b * y with y = 1 - 2 z, (I + diag(b) C diag(b)) z = 1. Taken
        1 / (1 + max(y, 0)) of the way it never leaves b > 0 and always descends: the quadratic part is exact, and
        -log(1 - s) <= s + s^2 / (2 (1 - max s)). Near the solution y vanishes, and the steps are Newton's.
        """
        xp = namespace(cosines)
        ones = xp.ones_like(cosines[0])
        identity = xp.diag(ones)
        # Start: each task's share in a bargain with only its strongest opponent, then the best common factor.
        shares = 1 / xp.sqrt(at_least(1 + xp.amin(cosines, axis=1), self.CANCELLED))
        shares = shares * xp.sqrt(len(ones) / at_least(shares @ cosines @ shares, self.CANCELLED))
        for _ in range(self.STEPS):
            z, _ = solve(identity + cosines * shares * shares[:, None], ones)
            excess = at_least(0.5 - z.min(), 0)  # max(y, 0) / 2
            shares = shares * (z + excess) / (0.5 + excess)
            if seen_on_host(abs(z - 0.5).max() <= self.CONVERGED):
                break
        return shares
