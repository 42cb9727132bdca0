"""Dynamic weight average (Liu, Johns & Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019)."""

from collections.abc import Sequence

from torch import Tensor

from dlrm_mtl.balancing.algebra.arrays import Array, at_least, floats, like, namespace
from dlrm_mtl.balancing.algebra.simplex import softmax
from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.options import is_number, require_option


class DWA(Balancer):
    """w = softmax(r / T), where r_m is the mean loss of the last window over that of the window before: tasks whose
    losses fall slowly get more weight.

    The paper's windows are epochs, and its weights sum to M. r_m is 1 until a task has two windows. The weights apply
    to the representation's gradients; heads keep their own. A task without a gradient, or whose loss is not positive,
    is left out of the step: it has weight 0, and its mean does not change.

    Args:
        window: steps.
        temperature: T; a higher one brings the weights closer to 1/M.

    Raises:
        ValueError: an option out of its range.
    """

    needs_losses = True
    portable = True

    def __init__(
        self,
        num_tasks: int,
        window: int = 25,
        temperature: float = 2.0,
        task_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(num_tasks, task_names)
        valid = isinstance(window, int) and not isinstance(window, bool) and window >= 1
        require_option(self, "window", window, valid, "an integer >= 1")
        require_option(
            self, "temperature", temperature, is_number(temperature) and temperature > 0, "a finite number > 0"
        )
        self.window = window
        self.temperature = temperature
        self.sums: Tensor
        self.counts: Tensor
        self.last_means: Tensor
        self.earlier_means: Tensor
        # Of the present window, and of the two before it: 0 if there is none yet.
        for name in ("sums", "counts", "last_means", "earlier_means"):
            self.register_task_state(name)

    def coefficients(self, statistic: Array, losses: Array | None) -> tuple[Array, dict[str, Array]]:
        assert losses is not None
        xp = namespace(statistic)
        active = (statistic.diagonal() > 0) & (losses > 0)
        last, earlier = like(statistic, self.last_means), like(statistic, self.earlier_means)
        rates = xp.where(earlier > 0, last / earlier, 1.0)
        weights = softmax(rates / self.temperature, active)
        sums = like(statistic, self.sums) + xp.where(active, losses, 0.0)
        counts = like(statistic, self.counts) + floats(active)
        ends = (like(statistic, self.step) + 1) % self.window == 0
        moves = ends & (counts > 0)
        return weights, {
            "sums": xp.where(ends, 0.0, sums),
            "counts": xp.where(ends, 0.0, counts),
            "last_means": xp.where(moves, sums / at_least(counts, 1), last),
            "earlier_means": xp.where(moves, last, earlier),
        }
