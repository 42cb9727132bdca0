"""Kendall, Gal & Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses", CVPR 2018."""

import torch
from torch import Tensor

from dlrm_mtl.balancing.methods.loss_weighting import LossWeighting


class Uncertainty(LossWeighting):
    """0.5 exp(-s) f + 0.5 s; optimal weights 1 / (2 f).

    With sigma^2 = 2 exp(s) these are, but for a constant, the paper's f / sigma^2 + ln sigma of a cross entropy f, and
    its e^2 / (2 sigma^2) + ln sigma of a squared error e^2 where f = e^2 / 2.
    """

    def forward(self, losses: Tensor) -> Tensor:
        scalars = self.stacked()
        return 0.5 * torch.exp(-scalars) * losses + 0.5 * scalars

    def weights(self) -> Tensor:
        return 0.5 * torch.exp(-self.stacked())
