"""What the layer accepts, checked where it is handed over: what torch says later names neither."""

from typing import NoReturn

import torch
from torch import Tensor
from torch.fx import Proxy

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)

_EXPECTED = "expected one dense tensor (B, D) of float64, float32, bfloat16 or float16"


def require_representation(representation: object) -> None:
    """
    Raises:
        TypeError: not a tensor, or one of a dtype or layout that has no gradients to balance.
        ValueError: no dimension.
        RuntimeError: within a transform of torch.func, which calls backward by other rules.
    """
    if not isinstance(representation, Tensor):
        if not isinstance(representation, Proxy):  # torch.fx traces the identity of evaluation
            _refuse(f"a {type(representation).__name__}")
        return
    if representation.is_nested or representation.layout != torch.strided:
        _refuse("a nested tensor" if representation.is_nested else f"a tensor of layout {representation.layout}")
    if representation.dtype not in DTYPES:
        _refuse(f"a tensor of {representation.dtype}")
    if representation.dim() == 0:
        raise ValueError(f"the representation is a tensor without dimensions, {_EXPECTED}")
    if torch._C._are_functorch_transforms_active():
        raise RuntimeError(
            "the balancing layer was called within a transform of torch.func (grad, vjp, vmap, jacrev, ...), expected"
            " one backward() over the sum of the losses: all M gradients must reach the layer at once"
        )


def require_losses(losses: object, num_tasks: int, device: torch.device) -> None:
    """
    Raises:
        TypeError: not a tensor of a floating dtype.
        ValueError: not M losses, or on another device than the layer.
    """
    expected = f"expected ({num_tasks},): one tensor, such as torch.stack(losses)"
    if not isinstance(losses, Tensor):
        raise TypeError(f"losses are a {type(losses).__name__}, {expected}")
    if losses.dtype not in DTYPES:
        raise TypeError(f"losses are of {losses.dtype}, {expected}, of a floating dtype")
    if losses.shape != (num_tasks,):
        raise ValueError(f"losses have shape {tuple(losses.shape)}, {expected}")
    if losses.device != device:
        raise ValueError(f"losses are on {losses.device}, expected {device}, where the layer is")


def _refuse(found: str) -> NoReturn:
    raise TypeError(f"the representation is {found}, {_EXPECTED}")
