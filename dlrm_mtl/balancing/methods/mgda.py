"""MGDA (Desideri, 2012; Sener & Koltun, "Multi-Task Learning as Multi-Objective Optimization", NeurIPS 2018)."""

from collections.abc import Sequence

from dlrm_mtl.balancing.algebra.arrays import Array, namespace
from dlrm_mtl.balancing.algebra.simplex import min_norm_point
from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.options import require_option

NORMALIZATIONS = ("none", "l2", "loss", "loss+")


class MGDA(Balancer):
    """The smallest convex combination of the gradients: w = argmin over the simplex of |sum of w_m g_m / c_m|.

    The weights apply to the raw gradients, as in the authors' code. A task without a gradient is left out; it would
    otherwise take all the weight.

    Args:
        normalization: c_m: 1 ("none"), |g_m| ("l2"), f_m ("loss") or f_m |g_m| ("loss+").

    Raises:
        ValueError: unknown normalization.
    """

    portable = True

    def __init__(self, num_tasks: int, normalization: str = "none", task_names: Sequence[str] | None = None) -> None:
        super().__init__(num_tasks, task_names)
        expected = f"one of {', '.join(NORMALIZATIONS)}"
        require_option(self, "normalization", normalization, normalization in NORMALIZATIONS, expected)
        self.normalization = normalization
        self.needs_losses = normalization in ("loss", "loss+")

    def coefficients(self, statistic: Array, losses: Array | None) -> tuple[Array, dict[str, Array]]:
        xp = namespace(statistic)
        squares = statistic.diagonal()
        active = squares > 0
        if self.normalization != "none":
            scale = xp.sqrt(squares) if self.normalization in ("l2", "loss+") else xp.ones_like(squares)
            scale = scale if losses is None else scale * losses
            scale = xp.where(active & (scale > 0), scale, 1.0)
            statistic = statistic / xp.outer(scale, scale)
        weights = min_norm_point(statistic, active)
        return weights, {}
