"""A small multi-task model, dense and deterministic, with the balancing layer between its bottom and its heads."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dlrm_mtl.balancing import BalancingLayer, ParameterLevelLayer

FEATURES = 5
WIDTH = 7


class SmallModel(nn.Module):
    """Bottom, balancing layer (or none: plain autograd), one linear head per task.

    Args:
        num_tasks: M.
        layer: the balancing layer, or None.
        dtype: of the parameters.
        skipped: tasks whose head is not called.
    """

    def __init__(
        self,
        num_tasks: int,
        layer: BalancingLayer | ParameterLevelLayer | None,
        dtype: torch.dtype = torch.float64,
        skipped: Sequence[int] = (),
    ) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.bottom = nn.Sequential(nn.Linear(FEATURES, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH)).to(dtype)
        self.heads = nn.ModuleList(nn.Linear(WIDTH, 1) for _ in range(num_tasks)).to(dtype)
        self.layer = layer
        self.skipped = frozenset(skipped)

    def forward(self, features: Tensor) -> list[Tensor]:
        """(B, FEATURES) to the logits (B,) of every task that is not skipped."""
        shared = self.bottom(features)
        views = [shared] * len(self.heads) if self.layer is None else self.layer(shared)
        return [
            head(view).squeeze(1)
            for m, (head, view) in enumerate(zip(self.heads, views, strict=True))
            if m not in self.skipped
        ]


def batch(step: int, rows: int, num_tasks: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Features (rows, FEATURES) and labels (rows, M) in {0, 1} of one global batch."""
    generator = torch.Generator().manual_seed(100 + step)
    features = torch.randn(rows, FEATURES, generator=generator, dtype=torch.float64)
    labels = (torch.rand(rows, num_tasks, generator=generator) < 0.4).to(dtype)
    return features.to(dtype), labels


def task_losses(logits: Sequence[Tensor], labels: Tensor, masks: Tensor | None = None) -> list[Tensor]:
    """Mean log loss of every task over all rows, masked rows counting as zero; tasks differ in scale."""
    losses = []
    for m, logit in enumerate(logits):
        rows = nn.functional.binary_cross_entropy_with_logits(logit, labels[:, m], reduction="none")
        if masks is not None:
            rows = rows * masks[:, m]
        losses.append(3.0**m * rows.mean())
    return losses
