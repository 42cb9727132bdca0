"""Any Gramian-based weighting of TorchJD (Quinton & Rey, "Jacobian Descent for Multi-Objective Optimization", 2024) by
name: ``torchjd:UPGrad``."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
import torchjd.aggregation
from torch import Tensor

from dlrm_mtl.balancing.balancer import Balancer


class TorchJD(Balancer):
    """A TorchJD weighting on the Gramian, normalised to mean diagonal 1.

    Its epsilons are absolute, and representation gradients so small that they would decide the weights. A task without
    a gradient is shown to it as orthogonal to all others with the mean norm. Weightings may wait for the host.

    Args:
        name: of the weighting, without the suffix "Weighting".
        options: of its constructor.

    Raises:
        ValueError: no such weighting, or options that it does not take.
    """

    def __init__(self, num_tasks: int, name: str, task_names: Sequence[str] | None = None, **options: Any) -> None:
        super().__init__(num_tasks, task_names)
        weightings = torchjd_weightings()
        if name not in weightings:
            raise ValueError(f"unknown TorchJD weighting {name!r}, expected one of {', '.join(weightings)}")
        tensors = {
            key: torch.tensor(value, dtype=torch.float64) if isinstance(value, list) else value
            for key, value in options.items()
        }
        try:
            self.weighting = weightings[name](**tensors)
        except TypeError:
            expected = str(inspect.signature(weightings[name]))
            raise ValueError(f"torchjd:{name} does not take {options}, expected {expected}") from None
        self.weights: Tensor
        self.register_task_state("weights", torch.full((num_tasks,), 1 / num_tasks, dtype=torch.float64))

    def coefficients(self, statistic: Tensor, losses: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        identity = torch.eye(self.num_tasks, dtype=statistic.dtype, device=statistic.device)
        finite = torch.isfinite(statistic).all()
        gramian = torch.where(finite, statistic, identity)
        norms = gramian.diagonal()
        active = norms > 0
        scale = torch.where(active.any(), norms.sum() / active.sum().clamp(min=1), 1.0)
        weights = self.weighting(gramian / scale + torch.diag((~active).double())).to(statistic.dtype)
        return weights, {"weights": weights}

    def task_weights(self) -> Tensor:
        return self.weights


def torchjd_weightings() -> dict[str, Any]:
    """Constructors of TorchJD's Gramian-based weightings, by name."""
    found = {}
    for name, value in vars(torchjd.aggregation).items():
        is_weighting = inspect.isclass(value) and name.endswith("Weighting") and not inspect.isabstract(value)
        if is_weighting and any(base.__name__ == "_GramianWeighting" for base in value.__mro__):
            found[name.removesuffix("Weighting")] = value
    return dict(sorted(found.items()))
