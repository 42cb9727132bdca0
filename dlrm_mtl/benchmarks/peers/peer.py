"""Ways to train one model, side by side in one process: do their gradients agree, and how fast is each?"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import torch
import torchjd.aggregation
from torch import Tensor, nn
from torch.nn import functional as F
from torchjd.autojac import jac_to_grad, mtl_backward

from dlrm_mtl.balancing import BalancingLayer, create_balancer
from dlrm_mtl.benchmarks.markdown import cell, markdown_table, with_interval
from dlrm_mtl.benchmarks.synthetic_cases import PeersCase
from dlrm_mtl.benchmarks.windows import compare_rates
from dlrm_mtl.distributed.versions import check_versions
from dlrm_mtl.run_directory import describe_environment

TOLERANCE = 1e-4
"""Tolerance of gradients relative to their norm, for float32 additions in another order."""


class Peer(nn.Module, ABC):
    """Shared modules and a head for each of M tasks, with a way to train them. All peers of a model have the same
    initial weights and batch.

    B rows, D width.
    """

    def __init__(self, case: PeersCase, num_tasks: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.shared = nn.ModuleDict(self.shared_modules(case))
            self.heads = nn.ModuleList(self.head(case) for _ in range(num_tasks))
            self.inputs = torch.randn(case.batch_size, case.width)
            self.labels = (torch.rand(num_tasks, case.batch_size) < 0.3).float()
        self.num_tasks = num_tasks
        self._optimizer = torch.optim.SGD(self.parameters(), lr=1e-3)

    def shared_modules(self, case: PeersCase) -> dict[str, nn.Module]:
        """The modules that all tasks use, among them ``bottom``."""
        return {"bottom": mlp(*(case.width,) * (case.layers + 1))}

    @abstractmethod
    def head(self, case: PeersCase) -> nn.Module:
        """The modules of one task."""

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
        """Flattened gradients of the shared modules and of the heads after one forward and backward."""
        self._optimizer.zero_grad()
        self.backward()
        return _flat_gradient(self.shared.parameters()), _flat_gradient(self.heads.parameters())

    def representation(self) -> Tensor:
        """(B, D)"""
        output: Tensor = self.shared["bottom"](self.inputs)
        return output

    def binary_losses(self, logits: Sequence[Tensor]) -> list[Tensor]:
        """M losses from M logits (B, 1)."""
        return [
            F.binary_cross_entropy_with_logits(of_task.squeeze(1), labels)
            for of_task, labels in zip(logits, self.labels, strict=True)
        ]


class LayeredPeer(Peer):
    """This project's layer.

    Args:
        method: balancing method.
    """

    def __init__(self, case: PeersCase, num_tasks: int, method: str) -> None:
        super().__init__(case, num_tasks)
        self.layer = BalancingLayer(create_balancer(method, num_tasks))

    def coefficients(self) -> Tensor:
        """(M,) coefficients of the last backward."""
        assert self.layer.record is not None
        return self.layer.record.coefficients.float()


class JacobianPeer(Peer):
    """TorchJD's way: the Jacobian of the losses with respect to the shared modules, aggregated.

    Args:
        aggregator: aggregates the Jacobian's rows.
    """

    def __init__(
        self, case: PeersCase, num_tasks: int, aggregator: torchjd.aggregation.Aggregator | None = None
    ) -> None:
        super().__init__(case, num_tasks)
        self._aggregator = torchjd.aggregation.UPGrad() if aggregator is None else aggregator

    def descend(self, losses: Sequence[Tensor], features: Sequence[Tensor]) -> None:
        """Aggregates the gradients of M losses, which depend on the shared modules by these tensors alone."""
        mtl_backward(losses, features)
        jac_to_grad(self.shared.parameters(), self._aggregator)


def mlp(*sizes: int) -> nn.Sequential:
    return nn.Sequential(*(part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.ReLU())))


def relative_difference(actual: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> float:
    """Norm of the difference over the norm of the expected gradients: the larger value of shared modules and heads."""
    norm = torch.linalg.vector_norm
    return max(float(norm(a - e) / norm(e)) for a, e in zip(actual, expected, strict=True))


def measure_peers_of(
    case: PeersCase,
    compare_gradients: Callable[[int], Mapping[str, float]],
    contenders: Callable[[int], Mapping[str, Peer]],
    bases: Iterable[str],
) -> dict[str, Any]:
    """Rows per second of each contender, and the time of its step over that of each base.

    Args:
        compare_gradients: relative differences of gradients that should agree, for a number of tasks.
        contenders: peers by name, for a number of tasks.
        bases: names of the contenders to compare with.

    Raises:
        RuntimeError: gradients that should agree do not.
    """
    versions = check_versions()
    sizes = []
    for num_tasks in case.tasks:
        differences = compare_gradients(num_tasks)
        if not max(differences.values()) < TOLERANCE:
            raise RuntimeError(f"gradients of {num_tasks} tasks do not agree: relative differences {differences}")
        steps = {name: peer.step for name, peer in contenders(num_tasks).items()}
        rates = compare_rates(steps, case.windows, case.seconds, lambda: None)
        sizes.append(
            {
                "tasks": num_tasks,
                "gradient_difference": differences,
                "samples_per_second": {name: asdict(rate) for name, rate in rates.items()},
                "time_over": {
                    base: {name: asdict(rates[base].over(rate)) for name, rate in rates.items()} for base in bases
                },
            }
        )
    return {"environment": describe_environment(versions, 1, "cpu"), "tolerance": TOLERANCE, "sizes": sizes}


def format_peers_of(results: Mapping[str, Any], columns: Mapping[str, str], form: str) -> str:
    """The results as Markdown tables.

    Args:
        columns: by contender, the heading of the column with times over its.
        form: format of these times.
    """
    parts = []
    for size in results["sizes"]:
        rows = [
            [name, cell(rate, ",.0f"), *(with_interval(size["time_over"][base][name], form) for base in columns)]
            for name, rate in size["samples_per_second"].items()
        ]
        worst = max(size["gradient_difference"].values())
        parts.append(
            f"M = {size['tasks']}; gradients under the same weights agree to {worst:.0e} of their norm\n\n"
            f"{markdown_table(('step', 'samples/s', *columns.values()), rows)}"
        )
    return "\n\n".join(parts)


def _flat_gradient(parameters: Iterable[nn.Parameter]) -> Tensor:
    return torch.cat([parameter.grad.reshape(-1) for parameter in parameters if parameter.grad is not None])
