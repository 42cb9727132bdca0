"""GradCraft (Bai et al., "GradCraft: Elevating Multi-task Recommendations through Holistic Gradient Crafting",
KDD 2024)."""

from collections.abc import Sequence

from torch import Tensor

from dlrm_mtl.balancing.algebra.arrays import (
    Array,
    at_least,
    cosines_of,
    floats,
    identity_like,
    like,
    namespace,
    ratio,
    solve,
)
from dlrm_mtl.balancing.algebra.gradient_averages import advance_unbiased_norms
from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.options import is_number, require_option


class GradCraft(Balancer):
    """Norms are brought closer to the largest; then each gradient is corrected against all that it conflicts with at
    once, and the mean is taken::

        u_m = moving average of |g_m|
        h_m = (relax max(u) / u_m + 1 - relax) g_m
        C_m = {j: <h_m, h_j> < 0}
        h'_m = h_m + sum over j in C_m of x_mj h_j, such that <h'_m, h_j> = margin |h_m| |h_j| for j in C_m

    Solved with unit gradients and a relative ridge. Where gradients of C_m nearly cancel, no margin may exist; the
    corrections are scaled down together so that none exceeds 1000 |h_m|. A task without a gradient conflicts with none
    and keeps its average.

    Args:
        relax: share of the balanced norms; 0 leaves the gradients as they are.
        average: share of the past in the moving averages of norms.
        margin: cosine that each corrected gradient keeps with those that it conflicted with.

    Raises:
        ValueError: an option out of its range.
    """

    RIDGE = 1e-13
    LARGEST = 1000.0

    portable = True

    def __init__(
        self,
        num_tasks: int,
        relax: float = 0.1,
        average: float = 0.9,
        margin: float = 1e-10,
        task_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(num_tasks, task_names)
        require_option(self, "relax", relax, is_number(relax) and 0 <= relax <= 1, "a number in [0, 1]")
        require_option(self, "average", average, is_number(average) and 0 <= average < 1, "a number in [0, 1)")
        require_option(self, "margin", margin, is_number(margin) and 0 <= margin < 1, "a number in [0, 1)")
        self.relax = relax
        self.average = average
        self.margin = margin
        self.norms: Tensor
        self.filled: Tensor
        self.register_task_state("norms")
        self.register_task_state("filled")

    def coefficients(self, statistic: Array, losses: Array | None) -> tuple[Array, dict[str, Array]]:
        cosines, norms, active = cosines_of(statistic)
        before = like(statistic, self.norms), like(statistic, self.filled)
        averages, filled = advance_unbiased_norms(*before, norms * active, 1 - self.average)
        scales = self.relax * ratio(averages.max(), averages) + 1 - self.relax
        lengths = scales * norms * active  # |h|, (M,)
        combinations = identity_like(cosines) + self._corrections(cosines)
        weights = (lengths[:, None] * combinations / norms).mean(axis=0)
        return weights, {"norms": averages, "filled": filled}

    def _corrections(self, cosines: Array) -> Array:
        """(M, M): in row m, coefficients of the unit gradients that are added to that of task m."""
        identity = identity_like(cosines)
        conflicts = floats(cosines < 0)  # row m: members of C_m
        members = conflicts[:, :, None] * conflicts[:, None, :]
        systems = members * (cosines + self.RIDGE * identity) + (1 - conflicts)[:, :, None] * identity
        solution, _ = solve(systems, (conflicts * (self.margin - cosines))[:, :, None])
        corrections = solution[:, :, 0]
        largest = namespace(cosines).amax(abs(corrections), axis=1)
        return corrections / at_least(largest / self.LARGEST, 1)[:, None]
