"""Learned weights of the losses themselves. Unlike the layer's coefficients they scale the heads' gradients too."""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn


class LossWeighting(nn.Module):
    """Weighs M losses by learned scalars s, (M,), that start at 0 and are trained with the model in the same step.

    They take part in the model's one backward; under data parallelism their averaged gradients are those of the global
    batch. Leave them out of weight decay: it would pull the weights to their start.
    """

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        self.scalars = nn.Parameter(torch.zeros(num_tasks))

    def forward(self, losses: Tensor) -> Tensor:
        """(M,) losses to what is minimised instead, (M,): weighted losses and the term that keeps s finite."""
        raise NotImplementedError

    def weights(self) -> Tensor:
        """(M,) the present weights of the losses."""
        raise NotImplementedError


class Uncertainty(LossWeighting):
    """0.5 exp(-s) f + 0.5 s (Kendall, Gal & Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses", CVPR
    2018); optimal weights 1 / (2 f)."""

    def forward(self, losses: Tensor) -> Tensor:
        return self.weights() * losses + 0.5 * self.scalars

    def weights(self) -> Tensor:
        return 0.5 * torch.exp(-self.scalars)


class IMTLL(LossWeighting):
    """exp(s) f - s (IMTL-L; Liu et al., "Towards Impartial Multi-task Learning", ICLR 2021); optimal weights 1 / f."""

    def forward(self, losses: Tensor) -> Tensor:
        return self.weights() * losses - self.scalars

    def weights(self) -> Tensor:
        return torch.exp(self.scalars)


LOSS_WEIGHTINGS: Mapping[str, type[LossWeighting]] = MappingProxyType({"uncertainty": Uncertainty, "imtl_l": IMTLL})
"""By name."""
