"""The layer in a plain PyTorch model under DistributedDataParallel.

torchrun --nproc-per-node 2 docs/examples/layer_under_ddp.py
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dlrm_mtl.balancing import BalancingLayer, create_balancer

ROWS, FEATURES, TASKS = 512, 8, 3


class Model(nn.Module):
    """A shared bottom, the layer, and a head and a loss for each task."""

    def __init__(self) -> None:
        super().__init__()
        self.bottom = nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU())
        self.layer = BalancingLayer(create_balancer("multibalance", num_tasks=TASKS))
        self.heads = nn.ModuleList(nn.Linear(16, 1) for _ in range(TASKS))

    def forward(self, rows: Tensor, labels: Tensor) -> Tensor:
        """(B, FEATURES) and (B, TASKS) to the mean losses (TASKS,) of this rank's rows."""
        views = self.layer(self.bottom(rows))
        logits = torch.cat([head(view) for head, view in zip(self.heads, views, strict=True)], dim=1)
        losses = nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(dim=0)
        return self.layer.weigh_losses(losses)  # for methods that need the losses


def train(steps: int = 20) -> tuple[Tensor, Tensor]:
    """Each rank trains on its share of the rows.

    Returns:
        the bottom's weights and the task weights, alike on every rank and for every number of ranks.
    """
    torch.manual_seed(0)
    model = DistributedDataParallel(Model(), broadcast_buffers=False)
    rows = torch.randn(ROWS, FEATURES)
    labels = (rows @ torch.randn(FEATURES, TASKS) > torch.tensor([0.0, 2.0, 4.0])).float()
    own = slice(dist.get_rank(), None, dist.get_world_size())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(rows[own], labels[own]).sum().backward()
        optimizer.step()
    return model.module.bottom[0].weight.detach(), model.module.layer.balancer.task_weights()


if __name__ == "__main__":
    dist.init_process_group("gloo")
    _, task_weights = train()
    if dist.get_rank() == 0:
        print("task weights:", task_weights.tolist())
    dist.barrier()
    dist.destroy_process_group()
