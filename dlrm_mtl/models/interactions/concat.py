"""Plain concatenation."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.models.interaction import Interaction


class Concat(Interaction):
    """The dense embedding beside all pooled embeddings, without parameters: D + sum of D_f values per row."""

    def __init__(self, config: ModelConfig, sparse_dims: Sequence[int]) -> None:
        super().__init__(config, sparse_dims)
        self.out_features = config.embedding_dim + sum(sparse_dims)

    def forward(self, dense: Tensor, sparse: list[Tensor]) -> Tensor:
        return torch.cat([dense, *sparse], dim=1)
