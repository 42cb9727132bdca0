"""Any Gramian-based weighting of TorchJD (Quinton & Rey, "Jacobian Descent for Multi-Objective Optimization", 2024) by
name: ``torchjd:UPGrad``."""

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torchjd.aggregation
from torch import Tensor

from dlrm_mtl.balancing.balancer import Balancer


class TorchJD(Balancer):
    """A TorchJD weighting on the Gramian, normalised to mean diagonal 1.

    Its epsilons are absolute, and representation gradients so small that they would decide the weights. A task without
    a gradient is shown to it as orthogonal to all others, with their mean norm. Weights are solved for on the CPU: the
    host waits. Random orders are a function of the step, alike on all ranks. Moving averages that a weighting keeps
    are not in the checkpoint.

    Args:
        name: of the weighting, without the suffix "Weighting".
        options: of its constructor; a list becomes a tensor.

    Raises:
        ValueError: no such weighting, options that it does not take, or a package that it needs is missing.
    """

    def __init__(self, num_tasks: int, name: str, task_names: Sequence[str] | None = None, **options: Any) -> None:
        super().__init__(num_tasks, task_names)
        weightings = torchjd_weightings()
        if name not in weightings:
            raise ValueError(f"unknown TorchJD weighting {name!r}, expected one of {', '.join(weightings)}")
        expected = inspect.signature(weightings[name])
        try:
            expected.bind(**options)
        except TypeError as error:
            raise ValueError(f"torchjd:{name}: {error}; its options are {expected}") from None
        tensors = {
            key: torch.tensor(value, dtype=torch.float64) if isinstance(value, (list, tuple)) else value
            for key, value in options.items()
        }
        try:
            weighting = weightings[name](**tensors)
        except ImportError as error:
            raise ValueError(f"torchjd:{name}: {error}") from None
        # In a tuple, since as a submodule it would move with the model, and into the checkpoint with buffers that a
        # fresh one cannot load.
        self._weighting = (weighting,)
        self.weights: Tensor
        self.register_task_state("weights", torch.full((num_tasks,), 1 / num_tasks, dtype=torch.float64))

    def coefficients(self, statistic: Tensor, losses: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        gramian = statistic.cpu()
        squares = gramian.diagonal()
        active = squares > 0
        if not torch.isfinite(gramian).all() or not active.any():
            return self.weights, {}
        gramian = gramian / (squares.sum() / active.sum()) + torch.diag((~active).double())
        with _seeded(int(self.step)):
            weights = self._weighting[0](gramian).to(self.weights)
        return weights, {"weights": weights}

    def task_weights(self) -> Tensor:
        return self.weights


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
