"""PLE (Tang et al., "Progressive Layered Extraction (PLE): A Novel Multi-Task Learning Model for Personalized
Recommendations", RecSys 2020)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.models.sharing.architecture import Gate, HeadInput, Layer, SharingArchitecture, mix
from dlrm_mtl.models.sharing.cgc import Level


class LowerLevel(Level):
    """A level that another one follows: it hands on x_s too, from a gate over the experts of all groups::

    x_s' = g_s [T_1(x_1), ..., T_M(x_M), S(x_s)],   g_s = softmax(W_s x_s)
    """

    def __init__(self, config: ModelConfig, in_features: int, heads: Sequence[str]) -> None:
        super().__init__(config, in_features, heads)
        groups = {**dict.fromkeys(heads, config.own_experts), "shared": config.shared_experts}
        self.shared_gate = Gate(in_features, config.gate_mlp, groups)

    def forward(self, of_heads: Sequence[Tensor], shared: Tensor) -> tuple[list[Tensor], Tensor]:
        """x_m, M tensors (B, D), and x_s (B, D) to x_m' and x_s' (B, d)."""
        of_shared = self.shared(shared)  # (B, S, d)
        own = [experts(inputs) for experts, inputs in zip(self.own.values(), of_heads, strict=True)]  # M (B, T, d)
        extracted = [
            mix(gate(inputs), torch.cat([experts, of_shared], dim=1))
            for gate, inputs, experts in zip(self.gates.values(), of_heads, own, strict=True)
        ]
        return extracted, mix(self.shared_gate(shared), torch.cat([*own, of_shared], dim=1))


class PLE(SharingArchitecture):
    """Levels of experts; the first reads x_m = x_s = x, and the cut is in the last."""

    def __init__(self, config: ModelConfig, in_features: int, heads: Sequence[str]) -> None:
        super().__init__(config, in_features, heads)
        width = config.expert_mlp[-1]
        widths = [in_features, *[width] * (config.levels - 1)]
        self.levels = torch.nn.ModuleList(LowerLevel(config, each, heads) for each in widths[:-1])
        self.last = Level(config, widths[-1], heads)
        self.out_features = width
        self._num_heads = len(heads)

    def forward(self, representation: Tensor, layer: Layer, inputs: Sequence[HeadInput]) -> Sequence[Tensor]:
        of_heads, shared = [representation] * self._num_heads, representation
        for level in self.levels:
            of_heads, shared = level(of_heads, shared)
        return self.last.balanced(of_heads, shared, layer, inputs)
