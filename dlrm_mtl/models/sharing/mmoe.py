"""MMoE (Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts", KDD
2018)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.models.sharing.architecture import Experts, Gate, HeadInput, Layer, SharingArchitecture


class MMoE(SharingArchitecture):
    """All experts are shared, and each task has a gate of its own.

    ::

        head input of m = sum over k of g_mk E_k(x),   g_m = softmax(W_m x)

    The cut: the experts' outputs, and x as the gates read it.
    """

    def __init__(self, config: ModelConfig, in_features: int, heads: Sequence[str]) -> None:
        super().__init__(config, in_features, heads)
        self.experts = Experts(config.shared_experts, in_features, config.expert_mlp)
        groups = {"shared": config.shared_experts}
        self.gates = nn.ModuleDict({head: Gate(in_features, config.gate_mlp, groups) for head in heads})
        self.out_features = config.expert_mlp[-1]

    def forward(self, representation: Tensor, layer: Layer, inputs: Sequence[HeadInput]) -> Sequence[Tensor]:
        gates = list(self.gates.values())
        experts = self.experts(representation)  # (B, K, d)
        views, mixture = layer.with_experts(representation, experts)  # M (B, D)
        weights = torch.stack([gates[head](views[loss]) for loss, head in inputs], dim=1)  # (B, R, K)
        return mixture(weights, [loss for loss, _ in inputs]).unbind(dim=1)  # R (B, d)
