"""The balancing layer at the cut of an MMoE, against TorchJD and against no balancing."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torchjd.aggregation
from torch import Tensor, nn

from dlrm_mtl.benchmarks.markdown import INTERVAL
from dlrm_mtl.benchmarks.peers.peer import (
    JacobianPeer,
    LayeredPeer,
    Peer,
    format_peers_of,
    measure_peers_of,
    mlp,
    relative_difference,
)
from dlrm_mtl.benchmarks.synthetic_cases import ExpertsCase, PeersCase

CONTROL, BALANCED = "layer, mean", "layer, multibalance"
PLAIN_NODE = "layer, multibalance, experts as a plain tensor"
JACOBIAN, PLAIN = "mtl_backward, UPGrad", "plain sum"


class MMoE(Peer):
    """A shared bottom, K experts of width d, and a gate and a tower for each task."""

    def shared_modules(self, case: PeersCase) -> dict[str, nn.Module]:
        assert isinstance(case, ExpertsCase)
        experts = nn.ModuleList(mlp(case.width, *case.expert_mlp) for _ in range(case.experts))
        return {**super().shared_modules(case), "experts": experts}

    def head(self, case: PeersCase) -> nn.Module:
        assert isinstance(case, ExpertsCase)
        tower = nn.Sequential(mlp(case.expert_mlp[-1], case.head), nn.Linear(case.head, 1))
        return nn.ModuleDict({"gate": nn.Linear(case.width, case.experts), "tower": tower})

    def outputs_of_experts(self, representation: Tensor) -> Tensor:
        """(B, D) to (B, K, d)."""
        experts: Any = self.shared["experts"]
        return torch.stack([expert(representation) for expert in experts], dim=1)

    def weights(self, views: Sequence[Tensor]) -> Tensor:
        """M views (B, D) to (B, M, K)."""
        logits = [head["gate"](view) for head, view in zip(self.heads, views, strict=True)]  # type: ignore[index]
        return torch.stack([of_task.softmax(1) for of_task in logits], dim=1)

    def losses(self, mixed: Sequence[Tensor]) -> list[Tensor]:
        """M losses from M mixtures (B, d)."""
        logits = [head["tower"](rows) for head, rows in zip(self.heads, mixed, strict=True)]  # type: ignore[index]
        return self.binary_losses(logits)


class PlainSum(MMoE):
    """The sum of the losses, without balancing."""

    def backward(self) -> None:
        x = self.representation()
        mixed = torch.bmm(self.weights((x,) * self.num_tasks), self.outputs_of_experts(x))
        torch.stack(self.losses(mixed.unbind(dim=1))).sum().backward()


class Layered(LayeredPeer, MMoE):
    """The layer at the cut, with the experts behind its mixture."""

    def backward(self) -> None:
        x = self.representation()
        views, mixture = self.layer.with_experts(x, self.outputs_of_experts(x))
        torch.stack(self.losses(mixture(self.weights(views)).unbind(dim=1))).sum().backward()  # type: ignore[arg-type]


class PlainNode(Layered):
    """The same, with the experts as a tensor of the cut like any other."""

    def backward(self) -> None:
        x = self.representation()
        views: Any = self.layer([(x, self.outputs_of_experts(x))] * self.num_tasks)
        weights = self.weights([of_gate for of_gate, _ in views])
        mixed = [torch.bmm(weights[:, m : m + 1], experts).squeeze(1) for m, (_, experts) in enumerate(views)]
        torch.stack(self.losses(mixed)).sum().backward()


class JacobianDescent(JacobianPeer, MMoE):
    """The gates read a copy of x: with x itself, TorchJD would count what reaches the bottom through the experts
    twice."""

    def backward(self) -> None:
        x = self.representation()
        of_gates, experts = x.clone(), self.outputs_of_experts(x)
        # By task: mtl_backward differentiates each loss alone, and frees what it went through.
        gates = [head["gate"](of_gates).softmax(1) for head in self.heads]  # type: ignore[index]
        mixed = [torch.bmm(of_task.unsqueeze(1), experts).squeeze(1) for of_task in gates]
        self.descend(self.losses(mixed), [of_gates, experts])


def measure_experts(case: ExpertsCase) -> dict[str, Any]:
    """See :func:`dlrm_mtl.benchmarks.peers.peer.measure_peers_of`."""
    return measure_peers_of(case, partial(compare_gradients, case), partial(_contenders, case), (CONTROL, BALANCED))


def compare_gradients(case: ExpertsCase, num_tasks: int) -> dict[str, float]:
    """Relative differences of gradients from the layer's in the first step: of the plain node's, and of mtl_backward's
    under the layer's coefficients."""
    ours = Layered(case, num_tasks, "multibalance")
    expected = ours.gradients()
    constant = torchjd.aggregation.Constant(ours.coefficients())
    others: dict[str, Peer] = {
        PLAIN_NODE: PlainNode(case, num_tasks, "multibalance"),
        "mtl_backward, weights of multibalance": JacobianDescent(case, num_tasks, constant),
    }
    return {name: relative_difference(other.gradients(), expected) for name, other in others.items()}


def format_experts(results: Mapping[str, Any]) -> str:
    """The results as a Markdown table."""
    return format_peers_of(results, {base: f"time over `{base}`, {INTERVAL}" for base in (CONTROL, BALANCED)}, ".3f")


def _contenders(case: ExpertsCase, num_tasks: int) -> dict[str, Peer]:
    return {
        CONTROL: Layered(case, num_tasks, "mean"),
        BALANCED: Layered(case, num_tasks, "multibalance"),
        PLAIN_NODE: PlainNode(case, num_tasks, "multibalance"),
        JACOBIAN: JacobianDescent(case, num_tasks),
        PLAIN: PlainSum(case, num_tasks),
    }
