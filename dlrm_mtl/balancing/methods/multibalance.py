"""MultiBalance (He, Chen et al., "MultiBalance: Multi-Objective Gradient Balancing in Industrial-Scale Multi-Task
Recommendation System", 2024, arXiv:2411.11871), Algorithm 3."""

from collections.abc import Callable, Sequence

from torch import Tensor

from dlrm_mtl.balancing.algebra.arrays import (
    Array,
    at_least,
    at_most,
    detached,
    like,
    namespace,
    norms_of,
    ratio,
)
from dlrm_mtl.balancing.algebra.gradient_averages import advance_norms
from dlrm_mtl.balancing.algebra.simplex import project_to_simplex
from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.options import PerTask, is_number, prior_option, require_option

DIRECTIONS = ("cosine", "gradient")


class MultiBalance(Balancer):
    """Moving-average gradient norms and one projected step of the task weights lambda per batch.

    With n_m = |g_m|, per step::

        u_m <- (1 - gamma) u_m + gamma n_m          (the first gradient of a task: u_m = n_m)
        v_m = (u_m / n_m) g_m
        d = V (lambda + rho lambda_0)
        s_m = cos(v_m, d)    direction="cosine", the paper's practice (section 5.4)
        s_m = <v_m, d>       direction="gradient", equation 12 to the letter
        lambda <- project_to_simplex(lambda - beta s)
        gradient = V (lambda + prior_in_direction lambda_0)

    A task without a gradient in a batch has v_m = 0, so s_m = 0, and keeps u_m.

    Args:
        beta: step size of lambda; a function of the 0-d int64 step tensor gives a schedule.
        rho: strength of the prior in the step of lambda.
        gamma: share of the newest norm in the moving average; 1 is the paper's "remove EMA" (v_m = g_m).
        prior: lambda_0, (M,) non-negative and summing to 1, or by name; uniform by default. Lambda starts there.
        direction: see above.
        prior_in_direction: beyond the paper. The maximiser of equation 4 is V (lambda + rho lambda_0); equation 5
            drops the second term. A positive value keeps this much of it.
        max_rescale: beyond the paper. Upper bound of u_m / n_m, which explodes for rare tasks in small batches.

    Raises:
        ValueError: an option out of its range.
    """

    portable = True

    def __init__(
        self,
        num_tasks: int,
        beta: float | Callable[[Tensor], Tensor] = 1.0,
        rho: float = 0.1,
        gamma: float = 0.1,
        prior: PerTask | None = None,
        direction: str = "cosine",
        prior_in_direction: float = 0.0,
        max_rescale: float | None = None,
        task_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(num_tasks, task_names)
        if not callable(beta):
            require_option(self, "beta", beta, is_number(beta) and beta >= 0, "a finite number >= 0 or a schedule")
        require_option(self, "gamma", gamma, is_number(gamma) and 0 < gamma <= 1, "a number in (0, 1]")
        require_option(self, "direction", direction, direction in DIRECTIONS, f"one of {', '.join(DIRECTIONS)}")
        for name, value in (("rho", rho), ("prior_in_direction", prior_in_direction)):
            require_option(self, name, value, is_number(value) and value >= 0, "a finite number >= 0")
        valid = max_rescale is None or (is_number(max_rescale) and max_rescale > 0)
        require_option(self, "max_rescale", max_rescale, valid, "None or > 0")
        self.beta = beta
        self.rho = rho
        self.gamma = gamma
        self.direction = direction
        self.prior_in_direction = prior_in_direction
        self.max_rescale = max_rescale
        self.prior: Tensor
        self.weights: Tensor
        self.norms: Tensor
        start = prior_option(self, self.task_names, prior)
        self.register_buffer("prior", start, persistent=False)
        self.register_task_state("weights", start.clone())
        # 0: the task has had no gradient yet.
        self.register_task_state("norms")

    def coefficients(self, statistic: Array, losses: Array | None) -> tuple[Array, dict[str, Array]]:
        norms = norms_of(statistic)  # n, (M,)
        average = advance_norms(like(statistic, self.norms), norms, self.gamma)  # u, (M,)
        rescale = ratio(average, norms)
        if self.max_rescale is not None:
            rescale = at_most(rescale, self.max_rescale)
        slope = self._slope(statistic, norms, rescale)
        weights = project_to_simplex(like(statistic, self.weights) - self._beta(statistic) * slope)
        coefficients = self._divided(rescale * self._with_prior(weights, self.prior_in_direction))
        return coefficients, {"weights": weights, "norms": average}

    def task_weights(self) -> Tensor:
        return self.weights

    def initial_coefficients(self) -> Tensor:
        return self._divided(self._with_prior(self.weights, self.prior_in_direction))

    def _beta(self, statistic: Array) -> float | Array:
        """The step size of this step."""
        beta = self.beta(self.step) if callable(self.beta) else self.beta
        return like(statistic, detached(beta)) if isinstance(beta, Tensor) else beta

    def _slope(self, gramian: Array, norms: Array, rescale: Array) -> Array:
        """s, (M,): cosine or inner product of each rescaled gradient with the direction d."""
        xp = namespace(gramian)
        mixture = rescale * self._with_prior(like(gramian, self.weights), self.rho)  # d = sum of mixture[m] g_m
        # Not a matrix product, which may fuse operations: the terms of opposed gradients must cancel exactly.
        products = (gramian * mixture).sum(axis=1)  # <g_m, d>
        if self.direction == "gradient":
            return rescale * products
        length = xp.sqrt(at_least((mixture * products).sum(), 0))  # |d|
        # Where gradients cancel, |d| is a rounding error, and lambda would jump to a vertex without bounds.
        return at_most(at_least(ratio(products, norms * length), -1), 1)

    @property
    def _divisor(self) -> float:
        """All coefficients are divided by it."""
        return 1.0

    def _divided(self, coefficients: Array) -> Array:
        return coefficients if self._divisor == 1 else coefficients / self._divisor

    def _with_prior(self, weights: Array, strength: float) -> Array:
        """weights + strength lambda_0."""
        return weights + strength * like(weights, self.prior) if strength else weights
