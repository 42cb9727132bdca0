"""A balancing method and a loss weighting of one's own, compared with the mean of the gradients.

    python docs/examples/own_method.py

From the folder above ``docs`` they are arms of a comparison, too:

    python -m dlrm_mtl.compare --arms mean docs.examples.own_method:UnitNorm:power=0.5 ...
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dlrm_mtl.balancing import Balancer, BalancingLayer, LossWeighting, create_balancer


class UnitNorm(Balancer):
    """w_m ~ n_m ** -power, scaled to sum to 1; n_m is the norm of task m's gradient.

    Args:
        power: 1 makes all gradients equally long, 0 gives the mean.

    Raises:
        ValueError: a negative power.
    """

    def __init__(self, num_tasks: int, power: float = 1.0, task_names: Sequence[str] | None = None) -> None:
        super().__init__(num_tasks, task_names)
        if power < 0:
            raise ValueError(f"UnitNorm: power is {power}, expected 0 or more")
        self.power = power

    def coefficients(self, statistic: Tensor, losses: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        norms = statistic.diagonal().sqrt()  # (M,), of the global batch
        weights = torch.where(norms > 0, norms**-self.power, 0.0)
        return weights / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny), {}


class AnchoredUncertainty(LossWeighting):
    """0.5 exp(-s) f + 0.5 s + 0.1 s^2: learned uncertainty, with a prior that keeps the weights near 0.5."""

    def forward(self, losses: Tensor) -> Tensor:
        scalars = self.stacked()
        return self.weights() * losses + 0.5 * scalars + 0.1 * scalars**2

    def weights(self) -> Tensor:
        return 0.5 * torch.exp(-self.stacked())


def train(method: str, steps: int = 200) -> list[float]:
    """Final losses of three regression tasks whose targets differ in scale."""
    torch.manual_seed(0)
    bottom, heads = nn.Linear(8, 4), nn.ModuleList(nn.Linear(4, 1) for _ in range(3))
    rows = torch.randn(256, 8)
    targets = [scale * (rows @ torch.randn(8, 1)).tanh() for scale in (0.1, 0.3, 1.0)]
    layer = BalancingLayer(create_balancer(method, num_tasks=3))
    optimizer = torch.optim.SGD([*bottom.parameters(), *heads.parameters(), *layer.parameters()], lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        views = layer(bottom(rows).tanh())
        outputs = [head(view) for head, view in zip(heads, views, strict=True)]
        losses = [nn.functional.mse_loss(*pair) for pair in zip(outputs, targets, strict=True)]
        layer.weigh_losses(torch.stack(losses)).sum().backward()
        optimizer.step()
    return [loss.item() for loss in losses]


if __name__ == "__main__":
    for method in ("mean", f"{__name__}:UnitNorm", f"{__name__}:AnchoredUncertainty+imtl_g"):
        print(f"{method:40}", *(f"{loss:10.4f}" for loss in train(method)))
