"""Interaction archs: where the bottom MLP's output and the pooled embeddings meet.

Notation: B batch, F categorical features, D embedding dimension, D_f that of feature f. Each arch takes the dense
embedding (B, D) and a list of F embeddings (B, D_f), and returns (B, ``out_features``).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchrec.models.dlrm import DenseArch, InteractionArch, InteractionProjectionArch
from torchrec.modules.crossnet import CrossNet, LowRankCrossNet
from torchrec.modules.deepfm import DeepFM, FactorizationMachine
from torchrec.modules.mlp import MLP

from dlrm_mtl.config import ModelConfig


class StackedInteraction(nn.Module):
    """torchrec's archs over embeddings of one dimension D: pairwise dots (DLRM), or a product of two projections.

    Args:
        arch: takes (B, D) and (B, F, D).
        out_features: width of its output.
    """

    def __init__(self, arch: nn.Module, out_features: int) -> None:
        super().__init__()
        self.arch = arch
        self.out_features = out_features

    def forward(self, dense: Tensor, sparse: list[Tensor]) -> Tensor:
        output: Tensor = self.arch(dense, torch.stack(sparse, dim=1))
        return output


class CrossInteraction(nn.Module):
    """A cross network over all embeddings, concatenated (DCN v2, Wang et al., WWW 2021).

    Args:
        crossnet: (B, D + sum of D_f) to the same.
    """

    def __init__(self, crossnet: nn.Module, in_features: int) -> None:
        super().__init__()
        self.crossnet = crossnet
        self.out_features = in_features

    def forward(self, dense: Tensor, sparse: list[Tensor]) -> Tensor:
        output: Tensor = self.crossnet(torch.cat([dense, *sparse], dim=1))
        return output


class DeepFMInteraction(nn.Module):
    """The dense embedding, a deep part over all embeddings, and the factorization machine's term (Guo et al., 2017), as
    torchrec's DeepFM model joins them."""

    def __init__(self, dense_dim: int, in_features: int, deep_layers: Sequence[int]) -> None:
        super().__init__()
        self.deep = DeepFM(MLP(in_features, list(deep_layers)))
        self.factorization = FactorizationMachine()
        self.out_features = dense_dim + deep_layers[-1] + 1

    def forward(self, dense: Tensor, sparse: list[Tensor]) -> Tensor:
        embeddings = [dense, *sparse]
        return torch.cat([dense, self.deep(embeddings), self.factorization(embeddings)], dim=1)


def build_interaction(config: ModelConfig, sparse_dims: Sequence[int]) -> nn.Module:
    """The interaction arch that a configuration names.

    Args:
        sparse_dims: D_f of each feature.
    """
    dim, num_features = config.embedding_dim, len(sparse_dims)
    in_features = dim + sum(sparse_dims)
    if config.interaction == "dot":
        return StackedInteraction(InteractionArch(num_features), dim + num_features * (num_features + 1) // 2)
    if config.interaction == "dcn":
        return CrossInteraction(CrossNet(in_features, config.cross_layers), in_features)
    if config.interaction == "low_rank_dcn":
        return CrossInteraction(LowRankCrossNet(in_features, config.cross_layers, config.cross_rank), in_features)
    if config.interaction == "deepfm":
        return DeepFMInteraction(dim, in_features, config.deep_mlp)
    first, second = config.projection_sizes
    branches = [DenseArch(in_features, [width * dim]) for width in (first, second)]
    return StackedInteraction(InteractionProjectionArch(num_features, *branches), dim + first * second)
