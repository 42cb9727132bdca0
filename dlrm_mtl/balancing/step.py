"""What passes between the stages of a step: measure, reduce, decide, combine.

Arrays are NumPy arrays where the host can read them. On a GPU they are tensors, and the next step may overwrite them.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from dlrm_mtl.balancing.algebra.arrays import Array
from dlrm_mtl.balancing.algebra.finite import Truth


class Measurement(NamedTuple):
    """What one rank knows of its rows."""

    statistic: Array
    """Gramian or pooled gradients, float64. NaN if a task is not finite, so that its reduction tells every rank; zeros
    if nothing is measured."""
    losses: Array | None
    """(M,) mean losses, float64, with 0 for tasks without a row."""
    finite: Truth
    """Whether every task is finite."""
    nonfinite: Array | None
    """(M,) bool, tasks with a loss or gradient that is not finite; None if there are none."""


class Reduced(NamedTuple):
    """What a step's coefficients follow from: statistics over all ranks."""

    statistic: Array
    losses: Array | None
    fallback: Array | None = None
    """(M,) coefficients to apply if the statistic is not finite, where it is that of the previous step."""
    repeated: Array | None = None
    """(M,) coefficients to apply whatever the statistic is, which leave the method's state as it is."""


class Decision(NamedTuple):
    """The coefficients of a step, and what they follow from."""

    statistic: Array
    coefficients: Array
    task_weights: Array
    applied: Array
    """The coefficients; NaN if the step is known not to be finite."""
    finite: Truth | None
    """Whether losses and statistic are finite; the balanced gradient must then be checked too. None if ``applied``
    already accounts for the gradient, whose elements the norms bound."""


@dataclass
class StepState:
    """What changes in every step. Apart from the module, whose attributes take long to set."""

    losses: Tensor | None = None
    """(M,) of this rank, for the next backward pass."""
    observe: bool = False
    """Whether the next backward pass records the Gramian even if the method needs none."""
    decision: Decision | None = None
    """Of the last backward pass."""
