"""Learned weights of the losses themselves. Unlike the layer's coefficients they scale the heads' gradients too."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from dlrm_mtl.balancing.algebra.finite import readable_on_host


class LossWeighting(nn.Module):
    """Weighs M losses by learned scalars s, (M,), that start at 0 and are trained with the model in the same step.

    They take part in the model's one backward; under data parallelism their averaged gradients are those of the global
    batch. Leave them out of weight decay: it would pull the weights to their start.

    Each is a parameter of its own, ``scalars.task_NAME``, so that a checkpoint can be loaded into another task set.

    Args:
        task_names: M unique names, in the losses' order.

    Raises:
        ValueError: a name with a dot, which no parameter can have.
    """

    def __init__(self, task_names: Sequence[str]) -> None:
        super().__init__()
        dotted = [name for name in task_names if "." in name]
        if dotted:
            raise ValueError(f"task {dotted[0]!r}: a task with a learned loss weight cannot have a '.' in its name")
        self.scalars = nn.ParameterDict({f"task_{name}": nn.Parameter(torch.zeros(())) for name in task_names})

        self.register_load_state_dict_post_hook(_start_what_is_not_loaded)

    def reset_parameters(self) -> None:
        """s = 0."""
        for scalar in self.scalars.values():
            nn.init.zeros_(scalar)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        built_on_meta = any(scalar.is_meta for scalar in self.scalars.values())
        super()._apply(fn, recurse)
        if built_on_meta:  # scalars that received memory have no values yet
            self.reset_parameters()
        return self

    def forward(self, losses: Tensor) -> Tensor:
        """(M,) losses to what is minimised instead, (M,): weighted losses and the term that keeps s finite."""
        raise NotImplementedError

    def weights(self) -> Tensor:
        """(M,) the present weights of the losses."""
        raise NotImplementedError

    def stacked(self) -> Tensor:
        """(M,) the present s."""
        return torch.stack(list(self.scalars.values()))


def _start_what_is_not_loaded(module: nn.Module, incompatible_keys: Any) -> None:
    """Scalars of new tasks, where a module that was built on the meta device is loaded with ``assign=True``."""
    scalars: nn.ParameterDict = module.scalars  # type: ignore[assignment]
    device = next((scalar.device for scalar in scalars.values() if not scalar.is_meta), None)
    if device is not None:
        for name, scalar in list(scalars.items()):
            if scalar.is_meta:
                scalars[name] = nn.Parameter(torch.zeros((), dtype=scalar.dtype, device=device))


def weigh_with_rows(weighting: LossWeighting, losses: Tensor) -> Tensor:
    """What is minimised instead of (M,) losses. A loss that is NaN leaves its scalar as it is, and counts as 0: its
    task may have no row. If it has one, the gradient is NaN, and tells."""
    missing = losses.detach().isnan()
    if readable_on_host(missing) and not any(missing.tolist()):
        weighted: Tensor = weighting(losses)
        return weighted
    counted: Tensor = _NanAsZero.apply(losses)
    return torch.where(missing, counted, weighting(counted))


class _NanAsZero(torch.autograd.Function):
    """0 where a value is NaN; the gradient passes everywhere."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return torch.where(values.isnan(), 0.0, values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class Uncertainty(LossWeighting):
    """0.5 exp(-s) f + 0.5 s (Kendall, Gal & Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses", CVPR
    2018); optimal weights 1 / (2 f)."""

    def forward(self, losses: Tensor) -> Tensor:
        scalars = self.stacked()
        return 0.5 * torch.exp(-scalars) * losses + 0.5 * scalars

    def weights(self) -> Tensor:
        return 0.5 * torch.exp(-self.stacked())


class IMTLL(LossWeighting):
    """exp(s) f - s (IMTL-L; Liu et al., "Towards Impartial Multi-task Learning", ICLR 2021); optimal weights 1 / f."""

    def forward(self, losses: Tensor) -> Tensor:
        scalars = self.stacked()
        return torch.exp(scalars) * losses - scalars

    def weights(self) -> Tensor:
        return torch.exp(self.stacked())
