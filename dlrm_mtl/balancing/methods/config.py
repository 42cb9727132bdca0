"""ConFIG (Liu, Chu & Thuerey, "ConFIG: Towards Conflict-free Training of Physics Informed Neural Networks",
ICLR 2025)."""

from dlrm_mtl.balancing.algebra.arrays import Array, at_least, cosines_of, floats, identity_like, solve
from dlrm_mtl.balancing.methods.balancer import Balancer


class ConFIG(Balancer):
    """IMTL-G's direction, which has equal cosines with all gradients; its length is the mean of their projections onto
    it::

        C x = 1, with the Gramian C of the unit gradients        w_m = mean(n) / sum(x) * x_m / n_m

    The paper adds the projections up. Weights may be negative. A relative ridge makes x unique for parallel gradients.
    A task without a gradient has weight 0, and counts as 0 in the mean.
    """

    RIDGE = 1e-13

    portable = True

    def coefficients(self, statistic: Array, losses: Array | None) -> tuple[Array, dict[str, Array]]:
        cosines, norms, active = cosines_of(statistic)
        solution, _ = solve(cosines + self.RIDGE * identity_like(cosines), floats(active))
        # The sum is 1 for parallel gradients and larger for others; smaller only by rounding.
        length = (norms * active).mean() / at_least(solution.sum(), 1)
        weights = length * solution / norms
        return weights, {}
