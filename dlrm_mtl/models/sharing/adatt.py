"""AdaTT (Li et al., "AdaTT: Adaptive Task-to-Task Fusion Network for Multitask Learning in Recommendations", KDD 2023),
with experts of tasks alone (AdaTT-sp)."""

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


class Fusion(nn.Module):
    """A level: n experts of each task on f_m, and each task's fusion of all of them::

        f_m' = sum over all M n experts j of g_mj E_j + r_m,   g_m = softmax(W_m f_m)
        r_m = E_m for n = 1, else v_m . (own experts of m), v_m learned, at first uniform in +-n^-1/2

    The residual r_m is a part of the weights of task m's own experts.
    """

    def __init__(self, config: ModelConfig, in_features: int, heads: Sequence[str]) -> None:
        super().__init__()
        self._own_experts = config.own_experts
        self.experts = nn.ModuleDict(
            {head: Experts(config.own_experts, in_features, config.expert_mlp) for head in heads}
        )
        groups = dict.fromkeys(heads, config.own_experts)
        self.gates = nn.ModuleDict({head: Gate(in_features, config.gate_mlp, groups) for head in heads})
        bound = config.own_experts**-0.5
        self.residuals = nn.ParameterDict(
            {head: nn.Parameter(torch.empty(config.own_experts).uniform_(-bound, bound)) for head in heads}
            if config.own_experts > 1
            else {}
        )

    def all_experts(self, of_heads: Sequence[Tensor]) -> Tensor:
        """f_m, M tensors (B, D), to the outputs of all experts (B, H n, d)."""
        outputs = [experts(inputs) for experts, inputs in zip(self.experts.values(), of_heads, strict=True)]
        return torch.cat(outputs, dim=1)

    def weights(self, head: int, inputs: Tensor) -> Tensor:
        """f_m (B, D) to the weights of all experts in f_m' (B, H n)."""
        name = list(self.gates)[head]
        own = self.residuals[name] if self.residuals else inputs.new_ones(1)
        before = head * self._own_experts
        after = (len(self.gates) - 1) * self._own_experts - before
        weights: Tensor = self.gates[name](inputs)
        return weights + nn.functional.pad(own, (before, after))

    def forward(self, of_heads: Sequence[Tensor]) -> list[Tensor]:
        """f_m, M tensors (B, D), to f_m' (B, d)."""
        experts = self.all_experts(of_heads)
        return [mix(self.weights(head, inputs), experts) for head, inputs in enumerate(of_heads)]


class AdaTT(SharingArchitecture):
    """Levels of fusion; the first reads f_m = x. The cut: all experts' outputs of the last level, and f_m as its gates
    read it."""

    def __init__(self, config: ModelConfig, in_features: int, heads: Sequence[str]) -> None:
        super().__init__(config, in_features, heads)
        width = config.expert_mlp[-1]
        widths = [in_features, *[width] * (config.levels - 1)]
        self.levels = nn.ModuleList(Fusion(config, each, heads) for each in widths[:-1])
        self.last = Fusion(config, widths[-1], heads)
        self.out_features = width
        self._num_heads = len(heads)

    def forward(self, representation: Tensor, layer: Layer, inputs: Sequence[HeadInput]) -> Sequence[Tensor]:
        of_heads: Sequence[Tensor] = [representation] * self._num_heads
        for level in self.levels:
            of_heads = level(of_heads)
        views, mixture = balance_with_experts(layer, of_heads, self.last.all_experts(of_heads), inputs)
        weights = [self.last.weights(head, view) for (_, head), view in zip(inputs, views, strict=True)]  # R (B, H n)
        return mixture(torch.stack(weights, dim=1), [loss for loss, _ in inputs]).unbind(dim=1)
