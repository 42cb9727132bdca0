"""An architecture and an interaction of one's own: an MMoE on top of the sum and the products of embeddings.

    python docs/examples/own_architecture.py

From the folder above ``docs`` a comparison trains with them:

    python -m dlrm_mtl.compare --model.interaction docs.examples.own_architecture:BiInteraction \\
        --model.sharing docs.examples.own_architecture:SmallMMoE ...
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dlrm_mtl.balancing import BalancingLayer, create_balancer
from dlrm_mtl.config import ModelConfig
from dlrm_mtl.models.interaction import Interaction
from dlrm_mtl.models.sharing.architecture import SharingArchitecture


class BiInteraction(Interaction):
    """The dense embedding, and the sum of the products of all pairs of embeddings (He & Chua, "Neural Factorization
    Machines", SIGIR 2017). Every D_f is D.

    Raises:
        ValueError: dimensions that differ.
    """

    def __init__(self, config: ModelConfig, sparse_dims: Sequence[int]) -> None:
        super().__init__(config, sparse_dims)
        if {*sparse_dims} != {config.embedding_dim}:
            raise ValueError(
                f"BiInteraction: embeddings have dimensions {sparse_dims}, expected {config.embedding_dim}"
            )
        self.out_features = 2 * config.embedding_dim

    def forward(self, dense: Tensor, sparse: list[Tensor]) -> Tensor:
        """(B, D) and F tensors (B, D) to (B, 2 D)."""
        embeddings = torch.stack([dense, *sparse])
        products = embeddings.sum(dim=0).square() - embeddings.square().sum(dim=0)
        return torch.cat([dense, products / 2], dim=1)


class SmallMMoE(SharingArchitecture):
    """y_m = head_m(sum_k softmax(W_m x)_k E_k(x)) (Ma et al., "Modeling Task Relationships in Multi-task Learning with
    Multi-gate Mixture-of-Experts", KDD 2018), with two experts of one layer."""

    def __init__(self, config: ModelConfig, in_features: int, tasks: Sequence[str]) -> None:
        super().__init__(config, in_features, tasks)
        self.out_features = 16
        self.experts = nn.ModuleList(nn.Linear(in_features, self.out_features) for _ in range(2))
        self.gates = nn.ModuleDict({task: nn.Linear(in_features, len(self.experts)) for task in tasks})
        self._tasks = tuple(tasks)

    def forward(self, representation: Tensor) -> tuple[Tensor, ...]:
        """x (B, D) to the cut: x as the gates read it, and the experts' outputs."""
        return (representation, *(expert(representation).relu() for expert in self.experts))

    def head_input(self, task: int, views: Sequence[Tensor]) -> Tensor:
        x, *experts = views
        shares = self.gates[self._tasks[task]](x).softmax(dim=1)  # (B, K)
        return torch.einsum("bk,bkd->bd", shares, torch.stack(experts, dim=1))


def relative_error() -> float:
    """How far an expert's gradient is from sum_m w_m grad L_m, each from a backward pass of its own."""
    torch.manual_seed(0)
    sharing = SmallMMoE(ModelConfig(), 8, ["click", "like", "buy"]).double()
    layer = BalancingLayer(create_balancer("multibalance", num_tasks=3))
    x, targets = torch.randn(64, 8).double(), torch.randn(3, 64, 16).double()
    losses = (torch.stack(sharing.head_inputs(x, layer)) - targets).square().mean(dim=(1, 2))
    losses.sum().backward()
    balanced = sharing.experts[0].weight.grad
    sharing.zero_grad()
    plain = sharing.head_inputs(x, lambda cut: [cut] * 3)
    by_task = [
        torch.autograd.grad((rows - target).square().mean(), sharing.experts[0].weight, retain_graph=True)[0]
        for rows, target in zip(plain, targets, strict=True)
    ]
    expected = torch.einsum("m,mij->ij", layer.record.coefficients, torch.stack(by_task))
    return float((balanced - expected).norm() / expected.norm())


if __name__ == "__main__":
    print(f"relative error of an expert's balanced gradient: {relative_error():.1e}")
