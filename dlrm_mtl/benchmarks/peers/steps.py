"""The same model trained by the balancing layer, by TorchJD, and by hand: forward, backward and update of one batch."""

from abc import ABC, abstractmethod

import torch
import torchjd.aggregation
from torch import Tensor, nn
from torch.nn import functional as F
from torchjd.autojac import jac_to_grad, mtl_backward

from dlrm_mtl.balancing import BalancingLayer, create_balancer
from dlrm_mtl.benchmarks.synthetic_cases import PeersCase


class Peer(ABC):
    """A multi-layer perceptron with M heads and a way to train it. All peers have the same initial weights and batch.

    B rows, D width, M tasks.
    """

    def __init__(self, case: PeersCase, num_tasks: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layers = [part for _ in range(case.layers) for part in (nn.Linear(case.width, case.width), nn.ReLU())]
            self.bottom = nn.Sequential(*layers)
            self.heads = nn.ModuleList(
                nn.Sequential(nn.Linear(case.width, case.head), nn.ReLU(), nn.Linear(case.head, 1))
                for _ in range(num_tasks)
            )
            self.inputs = torch.randn(case.batch_size, case.width)
            self.labels = (torch.rand(num_tasks, case.batch_size) < 0.3).float()
        self.num_tasks = num_tasks
        self._optimizer = torch.optim.SGD([*self.bottom.parameters(), *self.heads.parameters()], lr=1e-3)

    @abstractmethod
    def backward(self) -> None:
        """Runs forward and backward, which fill the gradient of every parameter."""

    def step(self) -> int:
        """Returns the rows of the batch."""
        self._optimizer.zero_grad()
        self.backward()
        self._optimizer.step()
        return len(self.inputs)

    def gradients(self) -> tuple[Tensor, Tensor]:
        """Flattened gradients of the bottom and of the heads after one forward and backward."""
        self._optimizer.zero_grad()
        self.backward()
        bottom, heads = (
            torch.cat([parameter.grad.reshape(-1) for parameter in part.parameters() if parameter.grad is not None])
            for part in (self.bottom, self.heads)
        )
        return bottom, heads

    def losses(self, views: tuple[Tensor, ...]) -> list[Tensor]:
        """M losses from M views of the representation (B, D)."""
        logits = [head(view).squeeze(1) for head, view in zip(self.heads, views, strict=True)]
        return [F.binary_cross_entropy_with_logits(*pair) for pair in zip(logits, self.labels, strict=True)]


class PlainSum(Peer):
    """The sum of the losses, without balancing."""

    def backward(self) -> None:
        torch.stack(self.losses((self.bottom(self.inputs),) * self.num_tasks)).sum().backward()


class Layered(Peer):
    """This project's layer.

    Args:
        method: balancing method.
    """

    def __init__(self, case: PeersCase, num_tasks: int, method: str) -> None:
        super().__init__(case, num_tasks)
        self.layer = BalancingLayer(create_balancer(method, num_tasks))

    def backward(self) -> None:
        torch.stack(self.losses(self.layer(self.bottom(self.inputs)))).sum().backward()

    def coefficients(self) -> Tensor:
        """(M,) float64 coefficients of the last backward."""
        assert self.layer.record is not None
        return self.layer.record.coefficients


class ByHand(Peer):
    """One gradient per task with respect to the detached representation, a TorchJD weighting on their Gramian, one
    backward of the weighted gradient."""

    def __init__(self, case: PeersCase, num_tasks: int) -> None:
        super().__init__(case, num_tasks)
        self._weighting = torchjd.aggregation.UPGradWeighting()

    def backward(self) -> None:
        representation = self.bottom(self.inputs)
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


class JacobianDescent(Peer):
    """TorchJD's way: the Jacobian of the losses with respect to the bottom's parameters, aggregated.

    Args:
        aggregator: aggregates the Jacobian's rows.
    """

    def __init__(
        self, case: PeersCase, num_tasks: int, aggregator: torchjd.aggregation.Aggregator | None = None
    ) -> None:
        super().__init__(case, num_tasks)
        self._aggregator = torchjd.aggregation.UPGrad() if aggregator is None else aggregator

    def backward(self) -> None:
        representation = self.bottom(self.inputs)
        mtl_backward(self.losses((representation,) * self.num_tasks), features=representation)
        jac_to_grad(self.bottom.parameters(), self._aggregator)
