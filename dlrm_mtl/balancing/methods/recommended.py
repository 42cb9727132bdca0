"""The recommended recipe: MultiBalance with options that were chosen on validation days, see ``docs/choosing.md``."""

from collections.abc import Callable, Sequence

from torch import Tensor

from dlrm_mtl.balancing.methods.multibalance import MultiBalance
from dlrm_mtl.balancing.methods.options import PerTask


class MultiBalanceRecommended(MultiBalance):
    """:class:`MultiBalance` with small steps of the task weights, a share of the prior in the direction, so that no
    task is left without weight, and no gradient scaled up::

        gradient = V (lambda + prior_in_direction lambda_0) / (1 + prior_in_direction)

    The division gives equal gradients their mean.

    Args:
        beta, rho, gamma, prior, prior_in_direction, max_rescale: see :class:`MultiBalance`.

    Raises:
        ValueError: an option out of its range.
    """

    portable = True

    def __init__(
        self,
        num_tasks: int,
        beta: float | Callable[[Tensor], Tensor] = 0.1,
        rho: float = 0.1,
        gamma: float = 0.1,
        prior: PerTask | None = None,
        prior_in_direction: float = 0.5,
        max_rescale: float | None = 1.0,
        task_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(
            num_tasks,
            beta,
            rho,
            gamma,
            prior,
            prior_in_direction=prior_in_direction,
            max_rescale=max_rescale,
            task_names=task_names,
        )

    @property
    def _divisor(self) -> float:
        return 1 + self.prior_in_direction
