"""DeepFM (Guo et al., IJCAI 2017), joined as in torchrec's model of that name."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchrec.modules.deepfm import DeepFM as DeepPart
from torchrec.modules.deepfm import FactorizationMachine
from torchrec.modules.mlp import MLP

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.models.interaction import Interaction


class DeepFM(Interaction):
    """The dense embedding, an MLP over all embeddings (``deep_mlp``), and the factorization machine's term."""

    def __init__(self, config: ModelConfig, sparse_dims: Sequence[int]) -> None:
        super().__init__(config, sparse_dims)
        self.deep = DeepPart(MLP(config.embedding_dim + sum(sparse_dims), list(config.deep_mlp)))
        self.factorization = FactorizationMachine()
        self.out_features = config.embedding_dim + config.deep_mlp[-1] + 1

    def forward(self, dense: Tensor, sparse: list[Tensor]) -> Tensor:
        embeddings = [dense, *sparse]
        return torch.cat([dense, self.deep(embeddings), self.factorization(embeddings)], dim=1)
