"""Fixed task weights: the mean (the control of every comparison), the sum, and weights of the user."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dlrm_mtl.balancing.algebra.arrays import Array, like
from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.options import PerTask, option_error, task_vector


class Static(Balancer):
    """Constant coefficients on the task gradients.

    Args:
        weights: (M,) finite values; 1/M each by default. By name, they may have further tasks, such as those of other
            days; they are used as they are, whatever they sum to.

    Raises:
        ValueError: not M finite values.
    """

    measures = "nothing"
    portable = True

    def __init__(self, num_tasks: int, weights: PerTask | None = None, task_names: Sequence[str] | None = None) -> None:
        super().__init__(num_tasks, task_names)
        values = task_vector([1 / num_tasks] * num_tasks if weights is None else weights, self.task_names)
        if values is None or not torch.isfinite(values).all():
            raise option_error(self, "weights", weights, f"{num_tasks} finite numbers")
        self.weights: Tensor
        # An option, not state: a checkpoint must not override the run's configuration.
        self.register_buffer("weights", values, persistent=False)

    def coefficients(self, statistic: Array, losses: Array | None) -> tuple[Array, dict[str, Array]]:
        return 1.0 * like(statistic, self.weights), {}

    def task_weights(self) -> Tensor:
        return self.weights


class Mean(Static):
    """1/M each: the unbalanced control ("all task weights are equal and add up to 1", section 5.3 of the paper)."""

    portable = True

    def __init__(self, num_tasks: int, task_names: Sequence[str] | None = None) -> None:
        super().__init__(num_tasks, task_names=task_names)


class Sum(Static):
    """1 each: what ``sum(losses).backward()`` does without a layer (Algorithm 1 of the paper)."""

    portable = True

    def __init__(self, num_tasks: int, task_names: Sequence[str] | None = None) -> None:
        super().__init__(num_tasks, [1.0] * num_tasks, task_names)
