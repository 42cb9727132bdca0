"""The product of two learned projections, as torchrec's ``InteractionProjectionArch``."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchrec.models.dlrm import DenseArch, InteractionProjectionArch

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.models.interaction import Interaction


class Projection(Interaction):
    """The dense embedding, and the inner products of F1 with F2 vectors of width D (``projection_sizes``), both learned
    from all embeddings. Every D_f is D."""

    def __init__(self, config: ModelConfig, sparse_dims: Sequence[int]) -> None:
        super().__init__(config, sparse_dims)
        dim, (first, second) = config.embedding_dim, config.projection_sizes
        branches = [DenseArch(dim + sum(sparse_dims), [width * dim]) for width in (first, second)]
        self.arch = InteractionProjectionArch(len(sparse_dims), *branches)
        self.out_features = dim + first * second

    def forward(self, dense: Tensor, sparse: list[Tensor]) -> Tensor:
        output: Tensor = self.arch(dense, torch.stack(sparse, dim=1))
        return output
