"""STEM (Su et al., "STEM: Unleashing the Power of Embeddings for Multi-task Recommendation", AAAI 2024)."""

from collections.abc import Sequence
from typing import ClassVar

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


class STEM(SharingArchitecture):
    """Each task has embedding tables of its own beside the shared ones: x_m comes from its tables, x_s from the shared.

    Experts T_m of each task read x_m, shared experts S read x_s, and a task's gate mixes all of them. A gate sends no
    gradient to the experts of other tasks (sg: stop gradient), so that a task's tables learn from this task alone::

        head input of m = g_m [sg T_1(x_1), ..., T_m(x_m), ..., sg T_M(x_M), S(x_s)],   g_m = softmax(W_m (x_m + x_s))

    The paper's x are concatenated embeddings. Here an interaction comes before, and each x has a bottom MLP and an
    interaction of its own, so that nothing of x_m is shared.

    The cut: the shared experts' outputs, and x_s as the gates read it. What leads to x_m and T_m is the task's own,
    from the tables on, and gets its own gradient, not a weighted one. Under a funnel this is the sum over the losses
    that read the task's head, as for the head itself.
    """

    own_tables: ClassVar[bool] = True

    def __init__(self, config: ModelConfig, in_features: int, heads: Sequence[str]) -> None:
        super().__init__(config, in_features, heads)
        self.own = nn.ModuleDict({head: Experts(config.own_experts, in_features, config.expert_mlp) for head in heads})
        self.shared = Experts(config.shared_experts, in_features, config.expert_mlp)
        groups = {**dict.fromkeys(heads, config.own_experts), "shared": config.shared_experts}
        self.gates = nn.ModuleDict({head: Gate(in_features, config.gate_mlp, groups) for head in heads})
        self.out_features = config.expert_mlp[-1]
        self._own_experts = config.own_experts

    def forward(
        self, representation: Tensor, layer: Layer, inputs: Sequence[HeadInput], own: Sequence[Tensor] = ()
    ) -> Sequence[Tensor]:
        """As in every architecture; the representation is x_s, and ``own`` are the x_m, H tensors (B, D)."""
        of_heads = [experts(x) for experts, x in zip(self.own.values(), own, strict=True)]  # H (B, T, d)
        experts = torch.cat(of_heads, dim=1)  # (B, H T, d)
        shared = self.shared(representation)  # (B, S, d)
        views, mixture = balance_with_experts(layer, [representation] * len(own), shared, inputs)  # R (B, D)
        gates = list(self.gates.values())
        weights = [gates[head](own[head] + view) for (_, head), view in zip(inputs, views, strict=True)]
        of_own, of_shared = torch.stack(weights, dim=1).split([experts.shape[1], shared.shape[1]], dim=2)  # (B, R, K)
        mixed = mixture(of_shared, [loss for loss, _ in inputs])  # (B, R, d)
        return [
            mix(of_own[:, number], self._experts_for(head, experts)) + mixed[:, number]
            for number, (_, head) in enumerate(inputs)
        ]

    def _experts_for(self, head: int, experts: Tensor) -> Tensor:
        """All tasks' experts (B, H T, d), with a gradient to those of a head alone."""
        start, stop = head * self._own_experts, (head + 1) * self._own_experts
        others = experts.detach()
        return torch.cat([others[:, :start], experts[:, start:stop], others[:, stop:]], dim=1)
