"""The balancing layer at the cut of an MMoE, against TorchJD and against no balancing, on one model in one process."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import torch
import torchjd.aggregation
from torch import Tensor, nn
from torch.nn import functional as F
from torchjd.autojac import jac_to_grad, mtl_backward

from dlrm_mtl.balancing import BalancingLayer, create_balancer
from dlrm_mtl.benchmarks.markdown import INTERVAL, cell, markdown_table, with_interval
from dlrm_mtl.benchmarks.synthetic_cases import ExpertsCase
from dlrm_mtl.benchmarks.windows import compare_rates
from dlrm_mtl.distributed.versions import check_versions
from dlrm_mtl.run_directory import describe_environment

CONTROL, BALANCED = "layer, mean", "layer, multibalance"
PLAIN_NODE = "layer, multibalance, experts as a plain tensor"
JACOBIAN, PLAIN = "mtl_backward, UPGrad", "plain sum"
TOLERANCE = 1e-4
"""Tolerance of gradients relative to their norm, for float32 additions in another order."""


class MMoE(ABC):
    """A shared bottom, K experts, and a gate and a tower for each of M tasks, with a way to train them. All have the
    same initial weights and batch.

    B rows, D width, d width of the experts.
    """

    def __init__(self, case: ExpertsCase, num_tasks: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.bottom = _mlp(*(case.width,) * (case.layers + 1))
            self.experts = nn.ModuleList(_mlp(case.width, *case.expert_mlp) for _ in range(case.experts))
            self.gates = nn.ModuleList(nn.Linear(case.width, case.experts) for _ in range(num_tasks))
            self.towers = nn.ModuleList(
                nn.Sequential(_mlp(case.expert_mlp[-1], case.head), nn.Linear(case.head, 1)) for _ in range(num_tasks)
            )
            self.inputs = torch.randn(case.batch_size, case.width)
            self.labels = (torch.rand(num_tasks, case.batch_size) < 0.3).float()
        self.num_tasks = num_tasks
        self.shared = [*self.bottom.parameters(), *self.experts.parameters()]
        self._optimizer = torch.optim.SGD([*self.shared, *self.gates.parameters(), *self.towers.parameters()], lr=1e-3)

    @abstractmethod
    def backward(self) -> None:
        """Runs forward and backward, which fill the gradient of every parameter."""

    def step(self) -> int:
        """Returns the rows of the batch."""
        self._optimizer.zero_grad()
        self.backward()
        self._optimizer.step()
        return len(self.inputs)

    def gradient(self) -> Tensor:
        """Of the bottom and the experts, flattened, after one forward and backward."""
        self._optimizer.zero_grad()
        self.backward()
        return torch.cat([parameter.grad.reshape(-1) for parameter in self.shared if parameter.grad is not None])

    def outputs_of_experts(self, representation: Tensor) -> Tensor:
        """(B, D) to (B, K, d)."""
        return torch.stack([expert(representation) for expert in self.experts], dim=1)

    def weights(self, views: Sequence[Tensor]) -> Tensor:
        """M views (B, D) to (B, M, K)."""
        return torch.stack([gate(view).softmax(1) for gate, view in zip(self.gates, views, strict=True)], dim=1)

    def losses(self, mixed: Sequence[Tensor]) -> list[Tensor]:
        """M losses from M mixtures (B, d)."""
        logits = [tower(rows).squeeze(1) for tower, rows in zip(self.towers, mixed, strict=True)]
        return [F.binary_cross_entropy_with_logits(*pair) for pair in zip(logits, self.labels, strict=True)]


class PlainSum(MMoE):
    """The sum of the losses, without balancing."""

    def backward(self) -> None:
        x = self.bottom(self.inputs)
        mixed = torch.bmm(self.weights((x,) * self.num_tasks), self.outputs_of_experts(x))
        torch.stack(self.losses(mixed.unbind(dim=1))).sum().backward()


class Layered(MMoE):
    """This project's layer, with the experts behind its mixture."""

    def __init__(self, case: ExpertsCase, num_tasks: int, method: str) -> None:
        super().__init__(case, num_tasks)
        self.layer = BalancingLayer(create_balancer(method, num_tasks))

    def backward(self) -> None:
        x = self.bottom(self.inputs)
        views, mixture = self.layer.with_experts(x, self.outputs_of_experts(x))
        torch.stack(self.losses(mixture(self.weights(views)).unbind(dim=1))).sum().backward()  # type: ignore[arg-type]

    def coefficients(self) -> Tensor:
        """(M,) float64 coefficients of the last backward."""
        assert self.layer.record is not None
        return self.layer.record.coefficients


class PlainNode(Layered):
    """The same, with the experts as a tensor of the cut like any other."""

    def backward(self) -> None:
        x = self.bottom(self.inputs)
        views: Any = self.layer([(x, self.outputs_of_experts(x))] * self.num_tasks)
        weights = self.weights([of_gate for of_gate, _ in views])
        mixed = [torch.bmm(weights[:, m : m + 1], experts).squeeze(1) for m, (_, experts) in enumerate(views)]
        torch.stack(self.losses(mixed)).sum().backward()


class JacobianDescent(MMoE):
    """TorchJD's way: the Jacobian of the losses with respect to bottom and experts, aggregated.

    The gates read a copy of x: with x itself, TorchJD would count what reaches the bottom through the experts twice.
    """

    def __init__(
        self, case: ExpertsCase, num_tasks: int, aggregator: torchjd.aggregation.Aggregator | None = None
    ) -> None:
        super().__init__(case, num_tasks)
        self._aggregator = torchjd.aggregation.UPGrad() if aggregator is None else aggregator

    def backward(self) -> None:
        x = self.bottom(self.inputs)
        of_gates, experts = x.clone(), self.outputs_of_experts(x)
        # By task: mtl_backward differentiates each loss alone, and frees what it went through.
        mixed = [torch.bmm(gate(of_gates).softmax(1).unsqueeze(1), experts).squeeze(1) for gate in self.gates]
        mtl_backward(self.losses(mixed), features=[of_gates, experts])
        jac_to_grad(self.shared, self._aggregator)


def measure_experts(case: ExpertsCase) -> dict[str, Any]:
    """Rows per second of each contender, and the time of its step over those of the control and of the balanced one.

    Raises:
        RuntimeError: gradients that should agree do not.
    """
    versions = check_versions()
    sizes = []
    for num_tasks in case.tasks:
        differences = compare_gradients(case, num_tasks)
        if not max(differences.values()) < TOLERANCE:
            raise RuntimeError(f"gradients of {num_tasks} tasks do not agree: relative differences {differences}")
        contenders: dict[str, MMoE] = {
            CONTROL: Layered(case, num_tasks, "mean"),
            BALANCED: Layered(case, num_tasks, "multibalance"),
            PLAIN_NODE: PlainNode(case, num_tasks, "multibalance"),
            JACOBIAN: JacobianDescent(case, num_tasks),
            PLAIN: PlainSum(case, num_tasks),
        }
        steps = {name: contender.step for name, contender in contenders.items()}
        rates = compare_rates(steps, case.windows, case.seconds, lambda: None)
        sizes.append(
            {
                "tasks": num_tasks,
                "gradient_difference": differences,
                "samples_per_second": {name: asdict(rate) for name, rate in rates.items()},
                "time_over": {
                    base: {name: asdict(rates[base].over(rate)) for name, rate in rates.items()}
                    for base in (CONTROL, BALANCED)
                },
            }
        )
    return {"environment": describe_environment(versions, 1, "cpu"), "tolerance": TOLERANCE, "sizes": sizes}


def compare_gradients(case: ExpertsCase, num_tasks: int) -> dict[str, float]:
    """Relative differences of shared gradients from the layer's in the first step: of the plain node's, and of
    mtl_backward's under the layer's coefficients."""
    ours = Layered(case, num_tasks, "multibalance")
    expected = ours.gradient()
    constant = torchjd.aggregation.Constant(ours.coefficients().float())
    others: dict[str, MMoE] = {
        PLAIN_NODE: PlainNode(case, num_tasks, "multibalance"),
        "mtl_backward, weights of multibalance": JacobianDescent(case, num_tasks, constant),
    }
    norm = torch.linalg.vector_norm
    return {name: float(norm(other.gradient() - expected) / norm(expected)) for name, other in others.items()}


def format_experts(results: Mapping[str, Any]) -> str:
    """The results as a Markdown table."""
    header = ("step", "samples/s", *(f"time over `{base}`, {INTERVAL}" for base in (CONTROL, BALANCED)))
    parts = []
    for size in results["sizes"]:
        rows = [
            [name, cell(rate, ",.0f"), *(with_interval(over[name], ".3f") for over in size["time_over"].values())]
            for name, rate in size["samples_per_second"].items()
        ]
        worst = max(size["gradient_difference"].values())
        parts.append(
            f"M = {size['tasks']}; gradients under the same weights agree to {worst:.0e} of their norm\n\n"
            f"{markdown_table(header, rows)}"
        )
    return "\n\n".join(parts)


def _mlp(*sizes: int) -> nn.Sequential:
    return nn.Sequential(*(part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.ReLU())))
