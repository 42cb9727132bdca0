"""Smooth Tchebycheff scalarization (Lin et al., "Smooth Tchebycheff Scalarization for Multi-Objective Optimization",
ICML 2024)."""

from collections.abc import Sequence

from torch import Tensor

from dlrm_mtl.balancing.algebra.arrays import Array, like, ratio
from dlrm_mtl.balancing.algebra.simplex import softmax
from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.options import (
    PerTask,
    is_number,
    option_error,
    prior_option,
    require_option,
    task_vector,
)


class STCH(Balancer):
    """The gradient of a smooth maximum of the losses, mu log sum exp(p_m (f_m - z_m) / mu).

    ::

        w_m ~ p_m exp(p_m (f_m - z_m) / mu), summing to 1

    A small mu leaves the weight to the task of the largest p_m (f_m - z_m). The paper's weights are p_m softmax(...)_m;
    their sum would act as a learning rate. The weights apply to the representation's gradients; heads keep their own. A
    task without a gradient is left out, also from p.

    Args:
        mu: smoothing, in units of the losses.
        prior: p, preferences that sum to 1; 1/M each by default.
        ideal: z, the lowest losses that the tasks could have; 0 each by default.

    Raises:
        ValueError: an option out of its range.
    """

    needs_losses = True
    portable = True

    def __init__(
        self,
        num_tasks: int,
        mu: float = 1.0,
        prior: PerTask | None = None,
        ideal: PerTask | None = None,
        task_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(num_tasks, task_names)
        require_option(self, "mu", mu, is_number(mu) and mu > 0, "a finite number > 0")
        lowest = task_vector([0.0] * num_tasks if ideal is None else ideal, self.task_names)
        if lowest is None or not lowest.isfinite().all():
            raise option_error(self, "ideal", ideal, f"{num_tasks} finite numbers")
        self.mu = mu
        self.prior: Tensor
        self.ideal: Tensor
        # Options, not state: a checkpoint must not override them.
        self.register_buffer("prior", prior_option(self, self.task_names, prior), persistent=False)
        self.register_buffer("ideal", lowest, persistent=False)

    def coefficients(self, statistic: Array, losses: Array | None) -> tuple[Array, dict[str, Array]]:
        assert losses is not None
        active = statistic.diagonal() > 0
        prior = like(statistic, self.prior) * active
        prior = ratio(prior, prior.sum())
        weights = prior * softmax(prior * (losses - like(statistic, self.ideal)) / self.mu, active)
        return ratio(weights, weights.sum()), {}
