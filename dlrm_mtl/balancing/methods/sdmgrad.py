"""SDMGrad (Xiao et al., "Direction-oriented Multi-objective Learning: Simple and Provable Stochastic Algorithms",
NeurIPS 2023)."""

from collections.abc import Sequence

from torch import Tensor

from dlrm_mtl.balancing.algebra.arrays import Array, like, ratio
from dlrm_mtl.balancing.algebra.simplex import simplex_minimum
from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.options import PerTask, is_number, prior_option, require_option


class SDMGrad(Balancer):
    """w = argmin over the simplex of |V w + rho V lambda_0|; direction V (w + rho lambda_0) / (1 + rho).

    The subproblem (equation 5 of the MultiBalance paper) is solved exactly. The authors' double sampling needs two
    independent batches, which flattened gradients do not have. A task without a gradient is left out,
    also from the prior.

    Args:
        rho: strength of the prior; lambda in the SDMGrad paper.
        prior: lambda_0, (M,) non-negative and summing to 1, or by name; uniform by default.

    Raises:
        ValueError: an option out of its range.
    """

    portable = True

    def __init__(
        self,
        num_tasks: int,
        rho: float = 0.3,
        prior: PerTask | None = None,
        task_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(num_tasks, task_names)
        require_option(self, "rho", rho, is_number(rho) and rho >= 0, "a finite number >= 0")
        self.rho = rho
        self.prior: Tensor
        self.weights: Tensor
        start = prior_option(self, self.task_names, prior)
        self.register_buffer("prior", start, persistent=False)
        self.register_task_state("weights", start.clone())

    def coefficients(self, statistic: Array, losses: Array | None) -> tuple[Array, dict[str, Array]]:
        active = statistic.diagonal() > 0
        prior = like(statistic, self.prior) * active
        prior = ratio(prior, prior.sum())
        weights = simplex_minimum(statistic, self.rho * (statistic @ prior), active)
        return (weights + self.rho * prior) / (1 + self.rho), {"weights": weights}

    def task_weights(self) -> Tensor:
        return self.weights
