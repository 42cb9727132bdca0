"""The balancing layer against TorchJD and against balancing by hand, on a multi-layer perceptron with M heads."""

from collections.abc import Mapping
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
from dlrm_mtl.benchmarks.synthetic_cases import PeersCase

UPGRAD, MULTIBALANCE = "torchjd:UPGrad", "multibalance"
OURS = {f"layer, {UPGRAD}": UPGRAD, f"layer, {MULTIBALANCE}": MULTIBALANCE}
BY_HAND, JACOBIAN, PLAIN = "by hand, UPGrad", "mtl_backward, UPGrad", "plain sum"


class Perceptron(Peer):
    """A multi-layer perceptron with a head for each task."""

    def head(self, case: PeersCase) -> nn.Module:
        return nn.Sequential(mlp(case.width, case.head), nn.Linear(case.head, 1))

    def losses(self, views: tuple[Tensor, ...]) -> list[Tensor]:
        """M losses from M views of the representation (B, D)."""
        return self.binary_losses([head(view) for head, view in zip(self.heads, views, strict=True)])


class PlainSum(Perceptron):
    """The sum of the losses, without balancing."""

    def backward(self) -> None:
        torch.stack(self.losses((self.representation(),) * self.num_tasks)).sum().backward()


class Layered(LayeredPeer, Perceptron):
    """The layer at the representation."""

    def backward(self) -> None:
        torch.stack(self.losses(self.layer(self.representation()))).sum().backward()


class ByHand(Perceptron):
    """One gradient per task with respect to the detached representation, a TorchJD weighting on their Gramian, one
    backward of the weighted gradient."""

    def __init__(self, case: PeersCase, num_tasks: int) -> None:
        super().__init__(case, num_tasks)
        self._weighting = torchjd.aggregation.UPGradWeighting()

    def backward(self) -> None:
        representation = self.representation()
        detached = representation.detach().requires_grad_()
        losses = self.losses((detached,) * self.num_tasks)
        # These passes also give the heads their gradients.
        gradients = []
        for loss, head in zip(losses, self.heads, strict=True):
            parameters = list(head.parameters())
            gradient, *of_head = torch.autograd.grad(loss, [detached, *parameters])
            gradients.append(gradient.reshape(-1))
            for parameter, value in zip(parameters, of_head, strict=True):
                parameter.grad = value
        stacked = torch.stack(gradients)
        gramian = stacked @ stacked.T
        weights = self._weighting(gramian / gramian.diagonal().mean())
        representation.backward((weights @ stacked).view_as(representation))


class JacobianDescent(JacobianPeer, Perceptron):
    """With the representation as the only feature."""

    def backward(self) -> None:
        x = self.representation()
        self.descend(self.losses((x,) * self.num_tasks), [x])


def measure_peers(case: PeersCase) -> dict[str, Any]:
    """See :func:`dlrm_mtl.benchmarks.peers.peer.measure_peers_of`."""
    return measure_peers_of(case, partial(compare_gradients, case), partial(_contenders, case), OURS)


def compare_gradients(case: PeersCase, num_tasks: int) -> dict[str, float]:
    """Relative differences between the others' gradients and the layer's in the first step.

    The balancing by hand has the same gradients and weighting. mtl_backward weighs gradients of the bottom's
    parameters, which have another Gramian, so it gets the layer's weights.
    """
    differences = {}
    for method in OURS.values():
        ours = Layered(case, num_tasks, method)
        expected = ours.gradients()
        weights = torchjd.aggregation.Constant(ours.coefficients())
        others: dict[str, Peer] = {f"mtl_backward, weights of {method}": JacobianDescent(case, num_tasks, weights)}
        if method == UPGRAD:
            others[BY_HAND] = ByHand(case, num_tasks)
        for name, other in others.items():
            differences[name] = relative_difference(other.gradients(), expected)
    return differences


def format_peers(results: Mapping[str, Any]) -> str:
    """The results as a Markdown table."""
    columns = {name: f"time over `{method}` of the layer, {INTERVAL}" for name, method in OURS.items()}
    return format_peers_of(results, columns, ".2f")


def _contenders(case: PeersCase, num_tasks: int) -> dict[str, Peer]:
    return {
        **{name: Layered(case, num_tasks, method) for name, method in OURS.items()},
        BY_HAND: ByHand(case, num_tasks),
        JACOBIAN: JacobianDescent(case, num_tasks),
        PLAIN: PlainSum(case, num_tasks),
    }
