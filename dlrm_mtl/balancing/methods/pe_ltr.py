"""PE-LTR (Lin et al., "A Pareto-Efficient Algorithm for Multiple Objective Optimization in E-Commerce Recommendation",
RecSys 2019)."""

from collections.abc import Sequence

from torch import Tensor

from dlrm_mtl.balancing.algebra.arrays import Array, like, ratio
from dlrm_mtl.balancing.algebra.simplex import simplex_minimum
from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.options import PerTask, option_error, task_vector, uniform_weights


class PELTR(Balancer):
    """MGDA with a least weight per task: argmin of |V w|^2 over w_m >= c_m that sum to 1.

    Solved exactly, where the paper projects the solution without bounds. A task without a gradient has weight 0; the
    others share its c_m in proportion to their own.

    Args:
        floors: c_m, (M,) non-negative with a sum below 1, or by name; 1 / (5 M) each by default, for the paper gives
            none.

    Raises:
        ValueError: floors out of their range.
    """

    portable = True

    def __init__(self, num_tasks: int, floors: PerTask | None = None, task_names: Sequence[str] | None = None) -> None:
        super().__init__(num_tasks, task_names)
        values = uniform_weights(num_tasks) / 5 if floors is None else task_vector(floors, self.task_names)
        if values is None or not (values >= 0).all() or not values.sum() < 1:
            expected = f"{num_tasks} non-negative numbers with a sum below 1, or one for each task"
            raise option_error(self, "floors", floors, expected)
        self.floors: Tensor
        self.register_buffer("floors", values, persistent=False)

    def coefficients(self, statistic: Array, losses: Array | None) -> tuple[Array, dict[str, Array]]:
        active = statistic.diagonal() > 0
        floors = like(statistic, self.floors)
        floors = ratio(floors * active * floors.sum(), (floors * active).sum())
        rest = 1 - floors.sum()
        # w = floors + rest y, with y on the simplex
        weights = floors + rest * simplex_minimum(statistic, statistic @ floors / rest, active)
        return weights, {}
