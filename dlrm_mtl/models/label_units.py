"""The units of labels: a regression task's head predicts (label - mean) / deviation.

Notation: B batch, M tasks.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dlrm_mtl.model_schema import Task


class LabelUnits(nn.Module):
    """Converts between standardised values, in which losses are computed, and the label's unit, in which tasks are
    predicted and evaluated. Labels and log-odds of binary tasks stay as they are."""

    _means: Tensor
    _deviations: Tensor

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__()
        self._has_regressions = any(task.kind == "regression" for task in tasks)
        if self._has_regressions:
            # A checkpoint keeps them in its schema.
            self.register_buffer("_means", torch.tensor([task.mean for task in tasks]), persistent=False)
            self.register_buffer("_deviations", torch.tensor([task.deviation for task in tasks]), persistent=False)

    def standardise(self, labels: Tensor) -> Tensor:
        """(B, M) labels to standardised ones."""
        return (labels - self._means) / self._deviations if self._has_regressions else labels

    def restore(self, outputs: Tensor) -> Tensor:
        """(B, M) standardised predictions to those in the label's unit."""
        return torch.addcmul(self._means, outputs, self._deviations) if self._has_regressions else outputs
