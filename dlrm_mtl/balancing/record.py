"""What a step of balancing did."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class BalancingRecord:
    """What the last backward pass did. The tensors stay on the device; the next backward pass may overwrite them."""

    gramian: Tensor
    """(M, M) float64, of the global batch; with ``reduction="delayed"`` that of the previous step. Zeros if the method
    needs none and the step was not observed."""
    coefficients: Tensor
    """(M,) float64, factors of the tasks' gradients; those that would have been applied, if the step is not finite."""
    task_weights: Tensor
    """(M,) float64, the method's task weights after the step."""
