"""What a step of balancing did."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class BalancingRecord:
    """What the last backward did. Tensors stay on the device, where the next backward may overwrite them; reading a
    value synchronises."""

    gramian: Tensor
    """(M, M) float64, of the global batch; zeros where no Gramian was needed or asked for (see ``observe``).
    What the coefficients came from: under ``reduction="delayed"``, the previous step's."""
    coefficients: Tensor
    """(M,) float64, what each task's gradient was multiplied by; what it would have been, in a step that is not
    finite."""
    task_weights: Tensor
    """(M,) float64, the method's task weights after the step."""
