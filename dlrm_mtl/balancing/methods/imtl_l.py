"""IMTL-L (Liu et al., "Towards Impartial Multi-task Learning", ICLR 2021)."""

import torch
from torch import Tensor

from dlrm_mtl.balancing.methods.loss_weighting import LossWeighting


class IMTLL(LossWeighting):
    """exp(s) f - s; optimal weights 1 / f."""

    def forward(self, losses: Tensor) -> Tensor:
        scalars = self.stacked()
        return torch.exp(scalars) * losses - scalars

    def weights(self) -> Tensor:
        return torch.exp(self.stacked())
