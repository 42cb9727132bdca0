"""CAGrad (Liu et al., "Conflict-Averse Gradient Descent for Multi-task Learning", NeurIPS 2021)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dlrm_mtl.balancing.methods.algebra.simplex import (
    MAX_ENUMERATED_TASKS,
    best_candidate,
    support_systems,
    task_supports,
)
from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.options import is_number, require_option, uniform_weights

RESCALES = ("mean", "official", "none")


class CAGrad(Balancer):
    """The direction within c |g_0| of the mean gradient g_0 that helps the worst task most.

    ::

        w = argmin over the simplex of  w' V' g_0 + kappa |V w|,   kappa = c |g_0|
        d = (g_0 + kappa V w / |V w|) / r

    Solved exactly, in closed form per support. Gradients that cancel in V w leave g_0. A task without a gradient is
    left out of w. The mean convention divides by r = 1 + c, so that equal gradients give their mean; the authors' code
    divides by 1 + c^2.

    Args:
        c: 0 is the mean gradient; large values approach MGDA's direction.
        rescale: r: "mean" 1 + c, "official" 1 + c^2, "none" 1.

    Raises:
        ValueError: an option out of its range, or more than 8 tasks.
    """

    capturable = True

    def __init__(
        self, num_tasks: int, c: float = 0.4, rescale: str = "mean", task_names: Sequence[str] | None = None
    ) -> None:
        super().__init__(num_tasks, task_names)
        require_option(self, "c", c, is_number(c) and c >= 0, "a finite number >= 0")
        require_option(self, "rescale", rescale, rescale in RESCALES, f"one of {', '.join(RESCALES)}")
        require_option(
            self, "num_tasks", num_tasks, num_tasks <= MAX_ENUMERATED_TASKS, f"at most {MAX_ENUMERATED_TASKS}"
        )
        self.c = c
        self.scale = {"mean": 1 + c, "official": 1 + c**2, "none": 1.0}[rescale]
        self.weights: Tensor
        self.register_task_state("weights", uniform_weights(num_tasks))

    def coefficients(self, statistic: Tensor, losses: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        squares = statistic.diagonal()
        gramian = statistic / squares.max().clamp(min=torch.finfo(statistic.dtype).tiny)
        uniform = torch.full_like(squares, 1 / self.num_tasks)
        to_mean = gramian @ uniform  # <g_m, g_0>
        radius = self.c * (uniform @ to_mean).clamp(min=0).sqrt()  # kappa
        weights = self._worst_case(gramian, to_mean, radius, squares > 0)
        length = (weights @ gramian @ weights).clamp(min=0).sqrt()
        pull = torch.nan_to_num(radius / length, nan=0.0, posinf=0.0)
        return (uniform + pull * weights) / self.scale, {"weights": weights}

    def task_weights(self) -> Tensor:
        return self.weights

    def _worst_case(self, gramian: Tensor, to_mean: Tensor, radius: Tensor, active: Tensor) -> Tensor:
        """w, (M,). Without the silent tasks: as zero gradients they would be the worst off, and take all the weight."""
        supports = task_supports(self.num_tasks, gramian.device)
        sides = torch.stack([supports, supports * to_mean], dim=2)
        solution, failed = torch.linalg.solve_ex(support_systems(gramian), sides)
        to_ones, to_linear = solution.unbind(dim=2)  # (S, M): A 1 and A g, with A the inverse on the support
        a = to_ones.sum(dim=1)
        b = to_linear.sum(dim=1)
        c = to_linear @ to_mean
        root = (b**2 - a * (c - radius**2)).clamp(min=0).sqrt()
        multiplier = (b + root) / a
        direction = torch.addcmul(-to_linear, multiplier[:, None], to_ones)
        weights = direction / direction.sum(dim=1, keepdim=True)
        # A vertex is feasible whatever the conditions say there; so one candidate always is.
        vertex = supports.sum(dim=1, keepdim=True) == 1
        weights = torch.where(vertex, supports, weights)
        feasible = (weights >= 0).all(dim=1) & ((failed == 0) | vertex.squeeze(1))
        feasible &= supports @ (~active).double() == 0
        length = ((weights @ gramian) * weights).sum(dim=1).clamp(min=0).sqrt()
        return best_candidate(weights, weights @ to_mean + radius * length, feasible)
