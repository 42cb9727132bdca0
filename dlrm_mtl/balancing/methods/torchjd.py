"""Any Gramian-based weighting of TorchJD (Quinton & Rey, "Jacobian Descent for Multi-Objective Optimization", 2024) by
name: ``torchjd:UPGrad``."""

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torchjd
import torchjd.aggregation
from torch import Tensor

from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.options import shown, uniform_weights


class TorchJD(Balancer):
    """A TorchJD weighting on the Gramian, normalised to mean diagonal 1.

    Its epsilons are absolute, and representation gradients so small that they would decide the weights. A task without
    a gradient is shown to it as orthogonal to all others, with their mean norm. Weights are solved for on the CPU: the
    host waits. Random orders are a function of the step, alike on all ranks.

    Moving averages that a weighting keeps are state, in buffers ``weighting_NAME`` that start at 0. Where a checkpoint
    lacks a task they start afresh for all, since the tasks may share a count of steps, and what is stored of them is
    reported as unexpected keys.

    Args:
        name: of the weighting, without the suffix "Weighting".
        options: of its constructor; a list becomes a tensor.

    Raises:
        ValueError: no such weighting, options that it does not take or that do not suit the number of tasks, or a
            package that it needs is missing.
    """

    def __init__(self, num_tasks: int, name: str, task_names: Sequence[str] | None = None, **options: Any) -> None:
        super().__init__(num_tasks, task_names)
        weightings = torchjd_weightings()
        if name not in weightings:
            raise ValueError(f"unknown TorchJD weighting {shown(name)}, expected one of {', '.join(weightings)}")
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
            with torch.device("cpu"):  # where it solves
                weighting = weightings[name](**tensors)
        except ImportError as error:
            raise ValueError(f"torchjd:{name}: {error}") from None
        # In a tuple, since as a submodule it would move with the model, and into the checkpoint with buffers that a
        # fresh one cannot load.
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
        for name, theirs in self._averages.items():
            weighting.get_buffer(theirs).copy_(self.get_buffer(name))
        with _seeded(int(self.step)), torch.device("cpu"):
            weights = weighting(gramian).to(self.weights)
        averages = {name: weighting.get_buffer(theirs).to(weights.device) for name, theirs in self._averages.items()}
        return weights, {"weights": weights, **averages}

    def task_weights(self) -> Tensor:
        return self.weights

    def _register_averages(self) -> None:
        """Buffers for those of the weighting. It has them, and knows them as its own, after its first step."""
        weighting = self._weighting[0]
        with _seeded(0), torch.device("cpu"):
            weighting(torch.eye(self.num_tasks, dtype=torch.float64))
        for theirs, value in weighting.named_buffers():
            name = f"weighting_{theirs.strip('_')}"
            self._averages[name] = theirs
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
    """torch's generator on the CPU starts from the seed, and afterwards continues as if nothing had happened."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)


def torchjd_weightings() -> dict[str, Any]:
    """Constructors of TorchJD's Gramian-based weightings, by name."""
    found = {}
    for name, value in vars(torchjd.aggregation).items():
        is_weighting = inspect.isclass(value) and name.endswith("Weighting") and not inspect.isabstract(value)
        if is_weighting and any(base.__name__ == "_GramianWeighting" for base in value.__mro__):
            found[name.removesuffix("Weighting")] = value
    return dict(sorted(found.items()))
