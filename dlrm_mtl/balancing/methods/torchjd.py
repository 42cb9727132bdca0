"""Any Gramian-based weighting of TorchJD (Quinton & Rey, "Jacobian Descent for Multi-Objective Optimization", 2024) by
name: ``torchjd:UPGrad``."""

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
import torchjd
import torchjd.aggregation
from torch import Tensor

from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.options import shown, uniform_weights

DEFAULTS: Mapping[str, Mapping[str, Any]] = MappingProxyType({"FairGrad": {"alpha": 1.0}})
"""Of options that TorchJD requires: FairGrad's proportional fairness (Ban & Ji, ICML 2024)."""


class TorchJD(Balancer):
    """A TorchJD weighting on the Gramian, normalised to mean diagonal 1.

    Without that, TorchJD's absolute epsilons would decide the weights, since representation gradients are small. A task
    without a gradient is passed as orthogonal to all others, with their mean norm. The weights are computed on the CPU,
    so the host waits. Random orders are a function of the step, the same on all ranks.

    Moving averages of a weighting are state, in buffers ``weighting_NAME`` that start at 0. If a checkpoint lacks a
    task they start anew for all tasks, which may share a count of steps; the stored ones are reported as unexpected
    keys.

    Args:
        name: of the weighting, without the suffix "Weighting".
        options: of its constructor; a list becomes a tensor. FairGrad's ``alpha`` is 1 by default.

    Raises:
        ValueError: an unknown weighting, wrong options, or a missing package.
    """

    def __init__(self, num_tasks: int, name: str, task_names: Sequence[str] | None = None, **options: Any) -> None:
        super().__init__(num_tasks, task_names)
        weightings = torchjd_weightings()
        if name not in weightings:
            raise ValueError(f"unknown TorchJD weighting {shown(name)}, expected one of {', '.join(weightings)}")
        options = {**DEFAULTS.get(name, {}), **options}
        expected = inspect.signature(weightings[name])
        try:
            expected.bind(**options)
        except TypeError as error:
            raise ValueError(f"torchjd:{name}: {error}; its options are {expected}") from None
        tensors = {
            key: torch.tensor(value, dtype=torch.float64, device="cpu") if isinstance(value, (list, tuple)) else value
            for key, value in options.items()
        }
        try:
            with torch.device("cpu"):  # where it computes the weights
                weighting = weightings[name](**tensors)
        except ImportError as error:
            raise ValueError(f"torchjd:{name}: {error}") from None
        # In a tuple: a submodule would move with the model, and would store buffers that a new one cannot load.
        self._weighting = (weighting,)
        self._averages: dict[str, str] = {}
        self.weights: Tensor
        self.register_task_state("weights", uniform_weights(num_tasks))
        if isinstance(weighting, torchjd.Stateful):
            self._register_averages()

    def coefficients(self, statistic: Tensor, losses: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        gramian = statistic.cpu()
        squares = gramian.diagonal()
        active = squares > 0
        if not torch.isfinite(gramian).all() or not active.any():
            return self.weights.clone(), {}
        gramian = gramian / (squares.sum() / active.sum()) + torch.diag((~active).double())
        weighting = self._weighting[0]
        for name, their_name in self._averages.items():
            weighting.get_buffer(their_name).copy_(self.get_buffer(name))
        with _seeded(int(self.step)), torch.device("cpu"):
            weights = weighting(gramian).to(self.weights)
        averages = {
            name: weighting.get_buffer(their_name).to(weights.device) for name, their_name in self._averages.items()
        }
        return weights, {"weights": weights, **averages}

    def task_weights(self) -> Tensor:
        return self.weights

    def _register_averages(self) -> None:
        """Registers buffers for those of the weighting, which it creates in its first step."""
        weighting = self._weighting[0]
        with _seeded(0), torch.device("cpu"):
            weighting(torch.eye(self.num_tasks, dtype=torch.float64))
        for their_name, value in weighting.named_buffers():
            name = f"weighting_{their_name.strip('_')}"
            self._averages[name] = their_name
            match value.dim():
                case 1:
                    self.register_task_state(name, torch.zeros_like(value))
                case 2:
                    self.register_pair_state(name, torch.zeros_like(value))
                case _:
                    self.register_buffer(name, torch.zeros_like(value))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        _, _, missing_keys, unexpected_keys, _ = arguments
        averages = tuple(prefix + name for name in self._averages)
        stored = [key for key in state_dict if key.startswith(averages)]
        if stored and any(key.startswith(averages) for key in missing_keys):
            unexpected_keys += [key for key in stored if key not in unexpected_keys]
            for name in self._averages:
                self.get_buffer(name).zero_()


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Within, torch's CPU generator starts from the seed; afterwards it continues from its former state."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)


def torchjd_weightings() -> dict[str, Any]:
    """Constructors of TorchJD's Gramian-based weightings, by name."""
    weightings = {}
    for name, value in vars(torchjd.aggregation).items():
        is_weighting = inspect.isclass(value) and name.endswith("Weighting") and not inspect.isabstract(value)
        if is_weighting and any(base.__name__ == "_GramianWeighting" for base in value.__mro__):
            weightings[name.removesuffix("Weighting")] = value
    return dict(sorted(weightings.items()))
