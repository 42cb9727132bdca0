"""The balancing layer against TorchJD and against balancing by hand, on one model in one process."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
import torchjd.aggregation
from torch import Tensor

from dlrm_mtl.benchmarks.markdown import INTERVAL, cell, markdown_table, with_interval
from dlrm_mtl.benchmarks.peers.steps import ByHand, JacobianDescent, Layered, Peer, PlainSum
from dlrm_mtl.benchmarks.synthetic_cases import PeersCase
from dlrm_mtl.benchmarks.windows import Contender, compare_rates
from dlrm_mtl.distributed.versions import check_versions
from dlrm_mtl.run_directory import describe_environment

UPGRAD, MULTIBALANCE = "torchjd:UPGrad", "multibalance"
OURS = {f"layer, {UPGRAD}": UPGRAD, f"layer, {MULTIBALANCE}": MULTIBALANCE}
BY_HAND, JACOBIAN, PLAIN = "by hand, UPGrad", "mtl_backward, UPGrad", "plain sum"
TOLERANCE = 1e-4
"""Tolerance of gradients relative to their norm, for float32 additions in another order."""


def measure_peers(case: PeersCase) -> dict[str, Any]:
    """Rows per second of each contender, and the time of the others' steps over the layer's.

    Raises:
        RuntimeError: gradients that should agree do not.
    """
    versions = check_versions()
    sizes = []
    for num_tasks in case.tasks:
        differences = compare_gradients(case, num_tasks)
        if not max(differences.values()) < TOLERANCE:
            raise RuntimeError(f"gradients of {num_tasks} tasks do not agree: relative differences {differences}")
        rates = compare_rates(_contenders(case, num_tasks), case.windows, case.seconds, lambda: None)
        sizes.append(
            {
                "tasks": num_tasks,
                "gradient_difference": differences,
                "samples_per_second": {name: asdict(rate) for name, rate in rates.items()},
                "time_over": {
                    ours: {name: asdict(rates[ours].over(rate)) for name, rate in rates.items()} for ours in OURS
                },
            }
        )
    return {"environment": describe_environment(versions, 1, "cpu"), "tolerance": TOLERANCE, "sizes": sizes}


def compare_gradients(case: PeersCase, num_tasks: int) -> dict[str, float]:
    """Relative differences between the others' gradients and the layer's in the first step.

    The balancing by hand has the same gradients and weighting. mtl_backward weighs gradients of the bottom's
    parameters, which have another Gramian, so it gets the layer's weights.
    """
    differences = {}
    for method in OURS.values():
        ours = Layered(case, num_tasks, method)
        expected = ours.gradients()
        weights = torchjd.aggregation.Constant(ours.coefficients().float())
        others: dict[str, Peer] = {f"mtl_backward, weights of {method}": JacobianDescent(case, num_tasks, weights)}
        if method == UPGRAD:
            others[BY_HAND] = ByHand(case, num_tasks)
        for name, other in others.items():
            differences[name] = relative_difference(other.gradients(), expected)
    return differences


def relative_difference(actual: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> float:
    """Norm of the difference over the norm of the expected gradients: the larger value of bottom and heads."""
    norm = torch.linalg.vector_norm
    return max(float(norm(a - e) / norm(e)) for a, e in zip(actual, expected, strict=True))


def format_peers(results: Mapping[str, Any]) -> str:
    """The results as a Markdown table."""
    header = ("step", "samples/s", *(f"time over `{method}` of the layer, {INTERVAL}" for method in OURS.values()))
    parts = []
    for size in results["sizes"]:
        rows = [
            [name, cell(rate, ",.0f"), *(with_interval(size["time_over"][ours][name]) for ours in OURS)]
            for name, rate in size["samples_per_second"].items()
        ]
        worst = max(size["gradient_difference"].values())
        parts.append(
            f"M = {size['tasks']}; gradients under the same weights agree to {worst:.0e} of their norm\n\n"
            f"{markdown_table(header, rows)}"
        )
    return "\n\n".join(parts)


def _contenders(case: PeersCase, num_tasks: int) -> dict[str, Contender]:
    peers: dict[str, Peer] = {name: Layered(case, num_tasks, method) for name, method in OURS.items()}
    peers |= {
        BY_HAND: ByHand(case, num_tasks),
        JACOBIAN: JacobianDescent(case, num_tasks),
        PLAIN: PlainSum(case, num_tasks),
    }
    return {name: peer.step for name, peer in peers.items()}
