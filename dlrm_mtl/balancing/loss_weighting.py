"""Learned weights of the losses themselves. Unlike the layer's coefficients they scale the heads' gradients too."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor, nn


class LossWeighting(nn.Module):
    """Weighs M losses by learned scalars s, (M,), that start at 0 and are trained with the model in the same step.

    They take part in the model's one backward; under data parallelism their averaged gradients are those of the global
    batch. Leave them out of weight decay: it would pull the weights to their start.

    Each is a parameter of its own, ``scalars.task_NAME``, so that a checkpoint can be loaded into another task set.

    Args:
        task_names: M unique names, in the losses' order.

    Raises:
        ValueError: a name with a dot, which no parameter can have.
    """

    def __init__(self, task_names: Sequence[str]) -> None:
        super().__init__()
        dotted = [name for name in task_names if "." in name]
        if dotted:
            raise ValueError(f"task {dotted[0]!r}: a task with a learned loss weight cannot have a '.' in its name")
        self.scalars = nn.ParameterDict({f"task_{name}": nn.Parameter(torch.zeros(())) for name in task_names})

    def forward(self, losses: Tensor) -> Tensor:
        """(M,) losses to what is minimised instead, (M,): weighted losses and the term that keeps s finite."""
        raise NotImplementedError

    def weights(self) -> Tensor:
        """(M,) the present weights of the losses."""
        raise NotImplementedError

    def stacked(self) -> Tensor:
        """(M,) the present s."""
        return torch.stack(list(self.scalars.values()))


class Uncertainty(LossWeighting):
    """0.5 exp(-s) f + 0.5 s (Kendall, Gal & Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses", CVPR
    2018); optimal weights 1 / (2 f)."""

    def forward(self, losses: Tensor) -> Tensor:
        scalars = self.stacked()
        return 0.5 * torch.exp(-scalars) * losses + 0.5 * scalars

    def weights(self) -> Tensor:
        return 0.5 * torch.exp(-self.stacked())


class IMTLL(LossWeighting):
    """exp(s) f - s (IMTL-L; Liu et al., "Towards Impartial Multi-task Learning", ICLR 2021); optimal weights 1 / f."""

    def forward(self, losses: Tensor) -> Tensor:
        scalars = self.stacked()
        return torch.exp(scalars) * losses - scalars

    def weights(self) -> Tensor:
        return torch.exp(self.stacked())


LOSS_WEIGHTINGS: Mapping[str, type[LossWeighting]] = MappingProxyType({"uncertainty": Uncertainty, "imtl_l": IMTLL})
"""By name."""
