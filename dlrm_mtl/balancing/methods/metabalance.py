"""MetaBalance (He et al., "MetaBalance: Improving Multi-Task Recommendations via Adapting Gradient Magnitudes of
Auxiliary Tasks", WWW 2022)."""

from collections.abc import Sequence

from torch import Tensor

from dlrm_mtl.balancing.algebra.arrays import Array, like, norms_of, ratio
from dlrm_mtl.balancing.algebra.gradient_averages import advance_unbiased_norms, first_norm
from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.options import is_number, require_option


class MetaBalance(Balancer):
    """Norms are brought closer to that of the first task, the target: w_m = (relax u_1 / u_m + 1 - relax) / M, where
    u_m is a moving average of |g_m|.

    The authors' code adds the gradients up, and does so for each parameter. A task without a gradient keeps its
    average. As long as the target has had none, the next task that has had one takes its place.

    Args:
        relax: share of the balanced norms; 0 leaves the gradients as they are.
        average: share of the past in the moving averages.

    Raises:
        ValueError: an option out of its range.
    """

    portable = True

    def __init__(
        self, num_tasks: int, relax: float = 0.7, average: float = 0.9, task_names: Sequence[str] | None = None
    ) -> None:
        super().__init__(num_tasks, task_names)
        require_option(self, "relax", relax, is_number(relax) and 0 <= relax <= 1, "a number in [0, 1]")
        require_option(self, "average", average, is_number(average) and 0 <= average < 1, "a number in [0, 1)")
        self.relax = relax
        self.average = average
        self.norms: Tensor
        self.filled: Tensor
        self.register_task_state("norms")
        self.register_task_state("filled")

    def coefficients(self, statistic: Array, losses: Array | None) -> tuple[Array, dict[str, Array]]:
        before = like(statistic, self.norms), like(statistic, self.filled)
        averages, filled = advance_unbiased_norms(*before, norms_of(statistic), 1 - self.average)
        weights = (self.relax * ratio(first_norm(averages), averages) + 1 - self.relax) / self.num_tasks
        return weights, {"norms": averages, "filled": filled}
