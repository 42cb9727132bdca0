"""CAGrad (Liu et al., "Conflict-Averse Gradient Descent for Multi-task Learning", NeurIPS 2021)."""

from collections.abc import Sequence

from torch import Tensor

from dlrm_mtl.balancing.algebra.arrays import Array, at_least, floats, namespace, ratio, solve
from dlrm_mtl.balancing.algebra.simplex import (
    MAX_ENUMERATED_TASKS,
    TINY,
    best_candidate,
    support_systems,
    task_supports,
)
from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.options import is_number, require_option, uniform_weights

RESCALES = ("mean", "official", "none")


class CAGrad(Balancer):
    """The direction within c |g_0| of the mean gradient g_0 that improves the worst task most.

    ::

        w = argmin over the simplex of  w' V' g_0 + kappa |V w|,   kappa = c |g_0|
        d = (g_0 + kappa V w / |V w|) / r

    Solved exactly, in closed form per support. If V w = 0, the direction is g_0. A task without a gradient is
    left out of w. The mean convention divides by r = 1 + c, so that equal gradients give their mean; the authors' code
    divides by 1 + c^2.

    Args:
        c: 0 is the mean gradient; large values approach MGDA's direction.
        rescale: r: "mean" 1 + c, "official" 1 + c^2, "none" 1.

    Raises:
        ValueError: an option out of its range, or more than 8 tasks.
    """

    portable = True

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

    def coefficients(self, statistic: Array, losses: Array | None) -> tuple[Array, dict[str, Array]]:
        xp = namespace(statistic)
        squares = statistic.diagonal()
        gramian = statistic / at_least(squares.max(), TINY)
        uniform = xp.full_like(squares, 1 / self.num_tasks)
        to_mean = gramian @ uniform  # <g_m, g_0>
        radius = self.c * xp.sqrt(at_least(uniform @ to_mean, 0))  # kappa
        weights = self._worst_case(gramian, to_mean, radius, squares > 0)
        length = xp.sqrt(at_least(weights @ gramian @ weights, 0))
        pull = ratio(radius, length)
        return (uniform + pull * weights) / self.scale, {"weights": weights}

    def task_weights(self) -> Tensor:
        return self.weights

    def _worst_case(self, gramian: Array, to_mean: Array, radius: Array, active: Array) -> Array:
        """w, (M,), without silent tasks: their zero gradients would be the worst case and take all the weight."""
        xp, supports = namespace(gramian), task_supports(gramian)
        sides = xp.stack([supports, supports * to_mean], axis=2)
        solution, failed = solve(support_systems(gramian), sides)
        to_ones, to_linear = solution[:, :, 0], solution[:, :, 1]  # (S, M): A 1, A g; A the inverse on the support
        a = to_ones.sum(axis=1)
        b = to_linear.sum(axis=1)
        c = to_linear @ to_mean
        root = xp.sqrt(at_least(b**2 - a * (c - radius**2), 0))
        multiplier = (b + root) / a
        direction = multiplier[:, None] * to_ones - to_linear
        weights = direction / direction.sum(axis=1, keepdims=True)
        # A vertex is always feasible, so there is at least one candidate.
        vertex = supports.sum(axis=1) == 1
        weights = xp.where(vertex[:, None], supports, weights)
        feasible = (weights >= 0).all(axis=1) & ((failed == 0) | vertex)
        feasible &= supports @ floats(~active) == 0
        length = xp.sqrt(at_least(((weights @ gramian) * weights).sum(axis=1), 0))
        return best_candidate(weights, weights @ to_mean + radius * length, feasible)
