"""FAMO (Liu et al., "FAMO: Fast Adaptive Multitask Optimization", NeurIPS 2023)."""

from collections.abc import Sequence

from torch import Tensor

from dlrm_mtl.balancing.algebra.arrays import Array, floats, like, namespace, ratio
from dlrm_mtl.balancing.algebra.simplex import softmax
from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.options import is_number, require_option


class FAMO(Balancer):
    """The logarithms of all losses fall at the same rate.

    ::

        z = softmax(logits),  w_m ~ z_m / f_m, summing to 1
        logits <- one Adam step on the sum of z_m (log f_m before - log f_m after), with weight decay

    The paper takes both losses on one batch, before and after the step, at the cost of a second forward pass. Here the
    loss after the step is that of the next batch: an approximation, whose noise is larger for small batches and rare
    tasks.

    The weights apply to the representation's gradients; heads keep their own. A task without a gradient, or whose loss
    is not positive, is left out: weight 0, and its state waits. Adam's betas are 0.9 and 0.999.

    Args:
        learning_rate: of the logits.
        decay: weight decay of the logits, which draws z to 1/M.

    Raises:
        ValueError: an option out of its range.
    """

    BETAS = (0.9, 0.999)

    EPSILON = 1e-8
    """Adam's; relative, since changes of logarithms have no unit."""

    needs_losses = True
    portable = True

    def __init__(
        self,
        num_tasks: int,
        learning_rate: float = 0.025,
        decay: float = 1e-3,
        task_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(num_tasks, task_names)
        for name, value in (("learning_rate", learning_rate), ("decay", decay)):
            require_option(self, name, value, is_number(value) and value >= 0, "a finite number >= 0")
        self.learning_rate = learning_rate
        self.decay = decay
        self.logits: Tensor
        self.last_losses: Tensor
        self.first_moments: Tensor
        self.second_moments: Tensor
        self.updates: Tensor
        # A last loss of 0: none yet.
        for state in ("logits", "last_losses", "first_moments", "second_moments", "updates"):
            self.register_task_state(state)

    def coefficients(self, statistic: Array, losses: Array | None) -> tuple[Array, dict[str, Array]]:
        assert losses is not None
        xp = namespace(statistic)
        active = (statistic.diagonal() > 0) & (losses > 0)
        state = self._adam_step(losses, active)
        weights = ratio(softmax(state["logits"], active), losses)
        state["last_losses"] = xp.where(active, losses, like(statistic, self.last_losses))
        return ratio(weights, weights.sum()), state

    def _adam_step(self, losses: Array, active: Array) -> dict[str, Array]:
        """Logits and Adam's state after the change of the losses since the last step."""
        xp = namespace(losses)
        before, logits = like(losses, self.last_losses), like(losses, self.logits)
        compared = active & (before > 0)
        shares = softmax(logits, compared)
        change = xp.where(compared, xp.log(before) - xp.log(losses), 0.0)
        gradient = shares * (change - (shares * change).sum()) + self.decay * logits
        state = {"updates": like(losses, self.updates) + floats(compared)}
        corrected = []
        powers = (gradient, gradient * gradient)
        for name, beta, power in zip(("first_moments", "second_moments"), self.BETAS, powers, strict=True):
            moment = like(losses, getattr(self, name))
            state[name] = xp.where(compared, beta * moment + (1 - beta) * power, moment)
            corrected.append(state[name] / (1 - beta ** state["updates"]))
        step = corrected[0] / (xp.sqrt(corrected[1]) + self.EPSILON)
        state["logits"] = xp.where(compared, logits - self.learning_rate * step, logits)
        return state
