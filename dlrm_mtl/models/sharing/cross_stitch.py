"""Cross-stitch networks (Misra et al., "Cross-stitch Networks for Multi-task Learning", CVPR 2016)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.models.sharing.architecture import Experts, HeadInput, Layer, SharingArchitecture, mix

OWN_SHARE = 0.9
"""Of a task's own unit at the start; the others share the rest."""


class Stitch(nn.Module):
    """The matrix a (M, M), near the identity at the start. Each entry is a parameter of its own, named by both tasks,
    so that those of another task can come and go."""

    def __init__(self, heads: Sequence[str]) -> None:
        super().__init__()
        others = (1 - OWN_SHARE) / max(len(heads) - 1, 1)
        own = 1 - others * (len(heads) - 1)
        self.entries = nn.ModuleDict(
            {
                head: nn.ParameterDict(
                    {unit: nn.Parameter(torch.tensor(own if unit == head else others)) for unit in heads}
                )
                for head in heads
            }
        )

    def forward(self) -> Tensor:
        return torch.stack([torch.stack(list(row.parameters())) for row in self.entries.values()])


class CrossStitch(SharingArchitecture):
    """An MLP E_n for each task at each level, mixed by a learned matrix::

        x_m' = sum over n of a_mn E_n(x_n),   x_m = x at the first level

    At the start a is near the identity. The cut: the outputs of the last level's MLPs.
    """

    def __init__(self, config: ModelConfig, in_features: int, heads: Sequence[str]) -> None:
        super().__init__(config, in_features, heads)
        width = config.expert_mlp[-1]
        widths = [in_features, *[width] * (config.levels - 1)]
        self.units = nn.ModuleList(
            nn.ModuleDict({head: Experts(1, each, config.expert_mlp) for head in heads}) for each in widths
        )
        self.stitches = nn.ModuleList(Stitch(heads) for _ in widths)
        self.out_features = width
        self._num_heads = len(heads)

    def forward(self, representation: Tensor, layer: Layer, inputs: Sequence[HeadInput]) -> Sequence[Tensor]:
        of_heads: Sequence[Tensor] = [representation] * self._num_heads
        for units, stitch in zip(self.units[:-1], self.stitches[:-1], strict=True):
            outputs = _outputs(units, of_heads)
            of_heads = [mix(row.expand(outputs.shape[0], -1), outputs) for row in stitch()]
        _, mixture = layer.with_experts([()] * layer.num_tasks, _outputs(self.units[-1], of_heads))
        rows = self.stitches[-1]().unbind()
        weights = torch.stack([rows[head] for _, head in inputs])  # (R, M)
        weights = weights.expand(representation.shape[0], -1, -1)
        return mixture(weights, [loss for loss, _ in inputs]).unbind(dim=1)


def _outputs(units: nn.Module, of_heads: Sequence[Tensor]) -> Tensor:
    """(B, M, d)"""
    assert isinstance(units, nn.ModuleDict)
    return torch.cat([unit(inputs) for unit, inputs in zip(units.values(), of_heads, strict=True)], dim=1)
