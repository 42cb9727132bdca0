"""Pairwise inner products (DLRM; Naumov et al., 2019)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchrec.models.dlrm import InteractionArch

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.models.interaction import Interaction


class Dot(Interaction):
    """The dense embedding, and the inner products of all pairs of embeddings. Every D_f is D."""

    def __init__(self, config: ModelConfig, sparse_dims: Sequence[int]) -> None:
        super().__init__(config, sparse_dims)
        num_features = len(sparse_dims)
        self.arch = InteractionArch(num_features)
        self.out_features = config.embedding_dim + num_features * (num_features + 1) // 2

    def forward(self, dense: Tensor, sparse: list[Tensor]) -> Tensor:
        output: Tensor = self.arch(dense, torch.stack(sparse, dim=1))
        return output
