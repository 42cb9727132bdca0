"""Learned weights of the losses. Unlike the layer's coefficients they also scale the gradients of the heads."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from dlrm_mtl.balancing.algebra.finite import readable_on_host


class LossWeighting(nn.Module):
    """Weighs M losses by learned scalars s, (M,), that start at 0 and are trained with the model in the same step.

    The model's one backward pass trains them; under data parallelism their averaged gradients are those of the global
    batch. Exclude them from weight decay, which would pull the weights to their initial values.

    Each scalar is a parameter, ``scalars.task_NAME``, so that a checkpoint can be loaded into another task set.

    Args:
        task_names: M unique names, in the losses' order.

    Raises:
        ValueError: a name contains a dot, which parameter names cannot.
    """

    def __init__(self, task_names: Sequence[str]) -> None:
        super().__init__()
        dotted = [name for name in task_names if "." in name]
        if dotted:
            raise ValueError(f"task {dotted[0]!r}: a task with a learned loss weight cannot have a '.' in its name")
        self.scalars = nn.ParameterDict({f"task_{name}": nn.Parameter(torch.zeros(())) for name in task_names})

        self.register_load_state_dict_post_hook(_initialise_missing)

    def reset_parameters(self) -> None:
        """s = 0."""
        for scalar in self.scalars.values():
            nn.init.zeros_(scalar)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        built_on_meta = any(scalar.is_meta for scalar in self.scalars.values())
        super()._apply(fn, recurse)
        if built_on_meta:  # the memory has no values yet
            self.reset_parameters()
        return self

    def forward(self, losses: Tensor) -> Tensor:
        """(M,) losses to (M,) terms to minimise: weighted losses plus a term that keeps s finite."""
        raise NotImplementedError

    def weights(self) -> Tensor:
        """(M,) the present weights of the losses."""
        raise NotImplementedError

    def stacked(self) -> Tensor:
        """(M,) the present s."""
        return torch.stack(list(self.scalars.values()))


def _initialise_missing(module: nn.Module, incompatible_keys: Any) -> None:
    """Initialises scalars of new tasks when a module from the meta device is loaded with ``assign=True``."""
    scalars: nn.ParameterDict = module.scalars  # type: ignore[assignment]
    device = next((scalar.device for scalar in scalars.values() if not scalar.is_meta), None)
    if device is not None:
        for name, scalar in list(scalars.items()):
            if scalar.is_meta:
                scalars[name] = nn.Parameter(torch.zeros((), dtype=scalar.dtype, device=device))


def weigh_with_rows(weighting: LossWeighting, losses: Tensor) -> Tensor:
    """(M,) losses to (M,) terms to minimise. A NaN loss counts as 0 and does not train its scalar, since its task may
    have no row in the batch. If it has one, the gradient is NaN too."""
    missing = losses.detach().isnan()
    if readable_on_host(missing) and not any(missing.tolist()):
        weighted: Tensor = weighting(losses)
        return weighted
    zeroed: Tensor = _NanAsZero.apply(losses)
    return torch.where(missing, zeroed, weighting(zeroed))


class _NanAsZero(torch.autograd.Function):
    """Replaces NaN by 0; the gradient passes unchanged."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return torch.where(values.isnan(), 0.0, values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient
