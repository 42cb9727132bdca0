"""MoCo (Fernando et al., "Mitigating Gradient Bias in Multi-objective Learning: A Provably Convergent Approach",
ICLR 2023)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dlrm_mtl.balancing.algebra.arrays import Array, at_least, floats, like, namespace
from dlrm_mtl.balancing.algebra.gradient_averages import advance_averages
from dlrm_mtl.balancing.algebra.simplex import TINY, project_to_simplex
from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.options import is_number, require_option, uniform_weights


class MoCo(Balancer):
    """Moving averages Y of the gradients, and one projected step of lambda per batch.

    ::

        y_m    <- y_m - b_k (y_m - g_m)
        lambda <- project_to_simplex(lambda - d_k (Y'Y + rho I) lambda)

    Works on batch-pooled gradients (M, D), since the rows of flattened ones are other samples in each step; lambda
    applies to the raw gradients. Y'Y is taken relative to its mean diagonal: representation gradients are so small that
    absolute steps would never leave the uniform weights. y_m starts at the task's first gradient and waits where it has
    none; until the first, the task has weight 0.

    Args:
        beta: b, step of the moving averages.
        step_size: d, step of lambda.
        rho: regularisation towards uniform weights.
        decay: both steps shrink as k^-decay with the step k = 1, 2, ...

    Raises:
        ValueError: an option out of its range.
    """

    measures = "pooled"
    portable = True

    def __init__(
        self,
        num_tasks: int,
        beta: float = 0.1,
        step_size: float = 0.1,
        rho: float = 0.1,
        decay: float = 0.5,
        task_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(num_tasks, task_names)
        require_option(self, "beta", beta, is_number(beta) and 0 < beta <= 1, "a number in (0, 1]")
        for name, value in (("step_size", step_size), ("rho", rho), ("decay", decay)):
            require_option(self, name, value, is_number(value) and value >= 0, "a finite number >= 0")
        self.beta = beta
        self.step_size = step_size
        self.rho = rho
        self.decay = decay
        self.weights: Tensor
        self.averages: Tensor
        self.register_task_state("weights", uniform_weights(num_tasks))
        # The first step sets the width.
        self.register_task_state("averages", torch.zeros(num_tasks, 0, device="cpu"))

    def coefficients(self, statistic: Array, losses: Array | None) -> tuple[Array, dict[str, Array]]:
        xp = namespace(statistic)
        decay = (floats(like(statistic, self.step)) + 1) ** -self.decay
        averages = advance_averages(like(statistic, self.averages), statistic, self.beta * decay)
        gramian = averages @ averages.T
        squares = gramian.diagonal()
        active = (squares > 0) | (squares.sum() == 0)  # all tasks before the first gradient
        gramian = gramian * (active.sum() / at_least(squares.sum(), TINY))
        present = like(statistic, self.weights) * active
        total = present.sum()  # 0 only if a checkpoint's weights all belonged to removed tasks
        weights = xp.where(total > 0, present / total, active / active.sum())
        slope = gramian @ weights + self.rho * weights
        target = xp.where(active, weights - self.step_size * decay * slope, -xp.inf)
        weights = project_to_simplex(target)
        return weights, {"weights": weights, "averages": averages}

    def task_weights(self) -> Tensor:
        return self.weights
