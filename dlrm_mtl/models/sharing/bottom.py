"""Shared bottom (Caruana, "Multitask Learning", 1997)."""

from collections.abc import Sequence

from torch import Tensor

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.models.sharing.architecture import SharingArchitecture


class Bottom(SharingArchitecture):
    """Every head reads x itself: the cut is x."""

    def __init__(self, config: ModelConfig, in_features: int, tasks: Sequence[str]) -> None:
        super().__init__(config, in_features, tasks)
        self.out_features = in_features

    def forward(self, representation: Tensor) -> tuple[Tensor, ...]:
        return (representation,)

    def head_input(self, task: int, views: Sequence[Tensor]) -> Tensor:
        return views[0]
