"""An architecture and an interaction of one's own: a shared layer beside the tasks' own, on top of the
sum and the products of embeddings.

    python docs/examples/own_architecture.py

From the folder above ``docs`` a comparison trains with them:

    python -m dlrm_mtl.compare --model.interaction docs.examples.own_architecture:BiInteraction \\
        --model.sharing docs.examples.own_architecture:SharedAndOwn ...
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dlrm_mtl.balancing import BalancingLayer, create_balancer
from dlrm_mtl.config import ModelConfig
from dlrm_mtl.models.interaction import Interaction
from dlrm_mtl.models.sharing.architecture import HeadInput, Layer, SharingArchitecture


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


class SharedAndOwn(SharingArchitecture):
    """Each head reads a layer that all share, beside one of its own: [relu(S x), relu(T_m x)]."""

    def __init__(self, config: ModelConfig, in_features: int, heads: Sequence[str]) -> None:
        super().__init__(config, in_features, heads)
        self.shared = nn.Linear(in_features, 16)
        self.own = nn.ModuleDict({head: nn.Linear(in_features, 8) for head in heads})
        self.out_features = 24

    def forward(self, representation: Tensor, layer: Layer, inputs: Sequence[HeadInput]) -> Sequence[Tensor]:
        """The cut: S x, and x as the tasks' own layers read it."""
        own = list(self.own.values())
        shared = self.shared(representation).relu()
        views = layer([(shared, representation)] * layer.num_tasks)  # M pairs
        return [torch.cat([views[loss][0], own[head](views[loss][1]).relu()], dim=1) for loss, head in inputs]


def relative_error() -> float:
    """How far the shared layer's gradient is from sum_m w_m grad L_m, each from a backward pass of its own."""
    torch.manual_seed(0)
    sharing = SharedAndOwn(ModelConfig(), 8, ["click", "like", "buy"]).double()
    layer = BalancingLayer(create_balancer("multibalance", num_tasks=3))
    x, targets = torch.randn(64, 8).double(), torch.randn(3, 64, 24).double()
    inputs = [HeadInput(loss=m, head=m) for m in range(3)]

    def losses() -> Tensor:
        return (torch.stack(tuple(sharing(x, layer, inputs))) - targets).square().mean(dim=(1, 2))

    losses().sum().backward()
    balanced = sharing.shared.weight.grad
    layer.eval()  # the identity
    by_task = [torch.autograd.grad(losses()[m], sharing.shared.weight)[0] for m in range(3)]
    expected = torch.einsum("m,mij->ij", layer.record.coefficients, torch.stack(by_task))
    return float((balanced - expected).norm() / expected.norm())


if __name__ == "__main__":
    print(f"relative error of the shared layer's balanced gradient: {relative_error():.1e}")
