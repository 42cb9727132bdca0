"""Norm balancing of MTAdam (Malkiel & Wolf, "MTAdam: Automatic Balancing of Multiple Training Loss Terms", 2020,
arXiv:2006.14683)."""

from collections.abc import Sequence

from torch import Tensor

from dlrm_mtl.balancing.algebra.arrays import Array, like, norms_of, ratio
from dlrm_mtl.balancing.algebra.gradient_averages import advance_norms, first_norm
from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.options import is_number, require_option


class MTAdam(Balancer):
    """Norms are brought to that of the first task: w_m = u_1 / (M u_m), where u_m is a moving average of |g_m| that
    starts at the first gradient.

    The authors' code adds the gradients up, for each parameter, and gives every task its own moments of Adam; the
    representation has neither. A task without a gradient keeps its average. As long as the first task has had none, the
    next task that has had one takes its place.

    Args:
        average: share of the past in the moving averages; beta_3 in the paper.

    Raises:
        ValueError: the option is out of its range.
    """

    portable = True

    def __init__(self, num_tasks: int, average: float = 0.9, task_names: Sequence[str] | None = None) -> None:
        super().__init__(num_tasks, task_names)
        require_option(self, "average", average, is_number(average) and 0 <= average < 1, "a number in [0, 1)")
        self.average = average
        self.norms: Tensor
        self.register_task_state("norms")

    def coefficients(self, statistic: Array, losses: Array | None) -> tuple[Array, dict[str, Array]]:
        averages = advance_norms(like(statistic, self.norms), norms_of(statistic), 1 - self.average)
        weights = ratio(first_norm(averages), averages) / self.num_tasks
        return weights, {"norms": averages}
