"""CGC (Tang et al., "Progressive Layered Extraction (PLE): A Novel Multi-Task Learning Model for Personalized
Recommendations", RecSys 2020): one level of PLE."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.models.sharing.architecture import (
    Experts,
    Gate,
    HeadInput,
    Layer,
    SharingArchitecture,
    balance_with_experts,
    mix,
)


class Level(nn.Module):
    """Experts T_m of each task on x_m, shared experts S on x_s, and each task's gate over both::

    x_m' = g_m [T_m(x_m), S(x_s)],   g_m = softmax(W_m x_m)
    """

    def __init__(self, config: ModelConfig, in_features: int, heads: Sequence[str]) -> None:
        super().__init__()
        self.own = nn.ModuleDict({head: Experts(config.own_experts, in_features, config.expert_mlp) for head in heads})
        self.shared = Experts(config.shared_experts, in_features, config.expert_mlp)
        groups = {"own": config.own_experts, "shared": config.shared_experts}
        self.gates = nn.ModuleDict({head: Gate(in_features, config.gate_mlp, groups) for head in heads})
        self._own_experts = config.own_experts

    def balanced(
        self,
        of_heads: Sequence[Tensor],
        shared: Tensor,
        layer: Layer,
        inputs: Sequence[HeadInput],
    ) -> Sequence[Tensor]:
        """The level at the cut: the shared experts' outputs, and x_m as the own experts and the gate of task m read it.

        Args:
            of_heads: x_m, M tensors (B, D).
            shared: x_s (B, D).

        Returns:
            R tensors (B, d).
        """
        views, mixture = balance_with_experts(layer, of_heads, self.shared(shared), inputs)
        own, gates = list(self.own.values()), list(self.gates.values())
        weights = [gates[head](view) for (_, head), view in zip(inputs, views, strict=True)]  # R (B, T + S)
        of_shared = mixture(
            torch.stack([each[:, self._own_experts :] for each in weights], dim=1), [loss for loss, _ in inputs]
        )
        return [
            mix(each[:, : self._own_experts], own[head](view)) + of_shared[:, position]
            for position, ((_, head), view, each) in enumerate(zip(inputs, views, weights, strict=True))
        ]


class CGC(SharingArchitecture):
    """Customised gate control: x_m = x_s = x."""

    def __init__(self, config: ModelConfig, in_features: int, heads: Sequence[str]) -> None:
        super().__init__(config, in_features, heads)
        self.level = Level(config, in_features, heads)
        self.out_features = config.expert_mlp[-1]
        self._num_heads = len(heads)

    def forward(self, representation: Tensor, layer: Layer, inputs: Sequence[HeadInput]) -> Sequence[Tensor]:
        return self.level.balanced([representation] * self._num_heads, representation, layer, inputs)
