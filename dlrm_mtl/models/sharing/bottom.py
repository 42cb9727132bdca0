"""Shared bottom (Caruana, "Multitask Learning", 1997)."""

from collections.abc import Sequence

from torch import Tensor

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.models.sharing.architecture import HeadInput, Layer, SharingArchitecture


class Bottom(SharingArchitecture):
    """Every head reads x itself: the cut is x."""

    def __init__(self, config: ModelConfig, in_features: int, heads: Sequence[str]) -> None:
        super().__init__(config, in_features, heads)
        self.out_features = in_features

    def forward(self, representation: Tensor, layer: Layer, inputs: Sequence[HeadInput]) -> Sequence[Tensor]:
        views = layer(representation)  # M (B, D)
        return [views[loss] for loss, _ in inputs]
