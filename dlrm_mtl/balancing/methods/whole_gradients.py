"""The two operations of a method on whole gradients: it measures them, and applies coefficients to them."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from dlrm_mtl.balancing.algebra.finite import Truth
from dlrm_mtl.balancing.kernels.gradients import CutGradients, per_task
from dlrm_mtl.balancing.kernels.gramian import local_gramian
from dlrm_mtl.balancing.kernels.pooling import local_pooled
from dlrm_mtl.balancing.kernels.weighted_sum import combine_and_check, combine_gradients, elements_are_finite
from dlrm_mtl.balancing.state.task_state import TaskState


class WholeGradients(TaskState):
    """What a method measures of one rank's gradients, and the balanced gradient. Methods may override both."""

    measures: ClassVar[Literal["gramian", "pooled", "nothing"]] = "gramian"
    """What coefficients depend on: the Gramian; the gradients summed over the batch, (M, D), for methods that average
    gradients over steps; or nothing (the layer then computes a Gramian only for records)."""

    @property
    def degree(self) -> int:
        """Degree of the statistic in the gradients: on W ranks its sum is divided by W^degree."""
        return 1 if self.measures == "pooled" else 2

    def measure(self, gradients: Sequence[Tensor | None], device: torch.device) -> Tensor:
        """The statistic of one rank's gradients: M tensors of one shape, or None."""
        if self.measures == "pooled":
            return local_pooled(gradients, device)
        return local_gramian(gradients, device)

    def measure_cut(self, cut: CutGradients, device: torch.device) -> Tensor:
        """The statistic of M gradients at each tensor of a cut: the sum of Gramians; pooled gradients side by side."""
        if self.measures == "pooled" and measures_by_default(self):
            each = [local_pooled(gradients, device) for gradients in cut]
        else:
            each = [self.measure(per_task(gradients), device) for gradients in cut]
        if len(each) == 1:
            return each[0]
        return torch.cat(each, dim=1) if self.measures == "pooled" else torch.stack(each).sum(dim=0)

    def apply_coefficients(self, gradients: Sequence[Tensor | None], coefficients: Tensor) -> Tensor | None:
        """One rank's balanced gradient, a new tensor in the gradients' shape; None if every gradient is None."""
        return combine_gradients(gradients, coefficients)

    def balanced_gradients(
        self, cut: CutGradients, coefficients: Tensor, finite: Truth | None = None
    ) -> list[Tensor | None]:
        """:meth:`apply_coefficients` at each tensor of a cut, but NaN in every element if the step is not finite.

        In every element, so that every parameter below sees it: all embedding tables, and parameters behind units that
        are off for some rows.

        Args:
            cut: M gradients at each of its tensors.
            coefficients: (M,) float64.
            finite: whether losses and statistic are finite; the results are then checked too. None if the coefficients
                are NaN in a step that is not finite.
        """
        check = finite is not None
        balanced: list[Tensor | None] = []
        applicable: Truth = True if finite is None else finite
        for gradients in cut:
            if adds_up_gradients(self):
                combined, whole = combine_and_check(gradients, coefficients, check)
            else:
                combined = self.apply_coefficients(per_task(gradients), coefficients)
                whole = elements_are_finite(combined) if check and combined is not None else True
            balanced.append(combined)
            applicable = applicable & whole
        if applicable is True:
            return balanced
        if isinstance(applicable, Tensor):
            zero_or_nan = torch.where(applicable, 0.0, torch.nan)
            return [None if combined is None else combined.add_(zero_or_nan) for combined in balanced]
        return [None if combined is None else combined.fill_(torch.nan) for combined in balanced]


_MEASURE, _APPLY = WholeGradients.measure, WholeGradients.apply_coefficients


def measures_by_default(method: WholeGradients) -> bool:
    """Whether a method does not override :meth:`WholeGradients.measure`."""
    return getattr(method.measure, "__func__", None) is _MEASURE


def adds_up_gradients(method: WholeGradients) -> bool:
    """Whether a method returns the weighted sum of gradients: it does not override
    :meth:`WholeGradients.apply_coefficients`."""
    return getattr(method.apply_coefficients, "__func__", None) is _APPLY
