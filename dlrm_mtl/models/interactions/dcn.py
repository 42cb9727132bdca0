"""Cross networks (DCN v2; Wang et al., WWW 2021)."""

from collections.abc import Sequence

from torch import Tensor, nn
from torchrec.modules.crossnet import CrossNet, LowRankCrossNet

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.models.interactions.concat import Concat


class DCN(Concat):
    """``cross_layers`` cross layers with full kernels over all embeddings, concatenated."""

    def __init__(self, config: ModelConfig, sparse_dims: Sequence[int]) -> None:
        super().__init__(config, sparse_dims)
        self.crossnet = self._crossnet(config)

    def _crossnet(self, config: ModelConfig) -> nn.Module:
        return CrossNet(self.out_features, config.cross_layers)

    def forward(self, dense: Tensor, sparse: list[Tensor]) -> Tensor:
        output: Tensor = self.crossnet(super().forward(dense, sparse))
        return output


class LowRankDCN(DCN):
    """The same with kernels of rank ``cross_rank``."""

    def _crossnet(self, config: ModelConfig) -> nn.Module:
        return LowRankCrossNet(self.out_features, config.cross_layers, config.cross_rank)
