"""Balancing an MMoE (Ma et al., KDD 2018) in plain PyTorch.

python docs/examples/experts.py
"""

import torch
from torch import Tensor, nn

from dlrm_mtl.balancing import BalancingLayer, create_balancer

ROWS, FEATURES, TASKS, EXPERTS = 512, 8, 3, 4


class MMoE(nn.Module):
    """A shared bottom, shared experts, and a gate and a tower for each task.

    Notation: B rows, M tasks, K experts, d their width.
    """

    def __init__(self, method: str = "multibalance") -> None:
        super().__init__()
        self.bottom = nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU())
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(16, 12), nn.ReLU()) for _ in range(EXPERTS))
        self.layer = BalancingLayer(create_balancer(method, num_tasks=TASKS))
        self.gates = nn.ModuleList(nn.Linear(16, EXPERTS) for _ in range(TASKS))
        self.towers = nn.ModuleList(nn.Linear(12, 1) for _ in range(TASKS))

    def forward(self, rows: Tensor) -> Tensor:
        """(B, FEATURES) to logits (B, M)."""
        x = self.bottom(rows)
        experts = torch.stack([expert(x) for expert in self.experts], dim=1)  # (B, K, d)
        views, mixture = self.layer.with_experts(x, experts)  # M views of x, one for each task
        weights = [gate(view).softmax(dim=1) for gate, view in zip(self.gates, views, strict=True)]
        mixed = mixture(torch.stack(weights, dim=1)).unbind(dim=1)  # M (B, d)
        return torch.cat([tower(each) for tower, each in zip(self.towers, mixed, strict=True)], dim=1)


def losses(model: MMoE, rows: Tensor, labels: Tensor) -> Tensor:
    """(B, FEATURES) and (B, M) to (M,)."""
    return nn.functional.binary_cross_entropy_with_logits(model(rows), labels, reduction="none").mean(dim=0)


def train(method: str = "multibalance", steps: int = 50) -> tuple[MMoE, Tensor]:
    """
    Returns:
        the model, and the tasks' losses (M,) in the last step.
    """
    torch.manual_seed(0)
    model = MMoE(method)
    rows = torch.randn(ROWS, FEATURES)
    labels = (rows @ torch.randn(FEATURES, TASKS) > torch.tensor([0.0, 2.0, 4.0])).float()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        of_tasks = losses(model, rows, labels)
        of_tasks.sum().backward()
        optimizer.step()
    return model, of_tasks.detach()


if __name__ == "__main__":
    model, of_tasks = train()
    print("losses:", of_tasks.tolist())
    print("task weights:", model.layer.balancer.task_weights().tolist())
