"""Embeddings of numeric features (Gorishniy et al., On Embeddings for Numerical Features in Tabular Deep Learning,
NeurIPS 2022).

Notation: B batch, N dense features, K frequencies, D embedding dimension.
"""

import math

import torch
from torch import Tensor, nn


class PeriodicEmbeddings(nn.Module):
    """relu(W_n [cos(2 pi c_n x_n), sin(2 pi c_n x_n)] + b_n) of each dense feature n: the paper's PLR.

    The frequencies c_n are learnt, like W_n and b_n, from normally distributed ones. Nothing depends on other rows or
    on statistics of the data.

    Args:
        features: N.
        frequencies: K, of each feature.
        deviation: of the initial frequencies. Higher ones tell closer values apart.
        dim: D.
    """

    def __init__(self, features: int, frequencies: int, deviation: float, dim: int) -> None:
        super().__init__()
        # As the initial weights of nn.Linear.
        bound = 1 / math.sqrt(2 * frequencies)
        self.frequencies = nn.Parameter(deviation * torch.randn(features, frequencies))
        self.weight = nn.Parameter(torch.empty(features, 2 * frequencies, dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(features, 1, dim).uniform_(-bound, bound))

    def forward(self, dense: Tensor) -> list[Tensor]:
        """(B, N) to N tensors (B, D)."""
        angles = 2 * math.pi * dense.t().unsqueeze(2) * self.frequencies.unsqueeze(1)
        waves = torch.cat([angles.cos(), angles.sin()], dim=2)
        return list(torch.relu(torch.bmm(waves, self.weight) + self.bias).unbind())
