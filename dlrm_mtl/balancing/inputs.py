"""Checks of the layer's inputs, since later errors of torch would not name them."""

from collections.abc import Sequence
from typing import NoReturn

import torch
from torch import Tensor
from torch.fx import Proxy

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)

_EXPECTED = "expected one dense tensor (B, D) of float64, float32, bfloat16 or float16, or M lists of such tensors"


def require_representation(representation: object) -> None:
    """
    Raises:
        TypeError: not a tensor, or of a dtype or layout without gradients to balance.
        ValueError: a tensor without dimensions.
        RuntimeError: within a transform of torch.func, which does not run one backward pass.
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


def require_cut(reads: Sequence[object], num_tasks: int) -> None:
    """
    Raises:
        TypeError: not sequences of tensors that have gradients to balance.
        ValueError: not M sequences; or one tensor as two objects, whose gradients could not be added up.
        RuntimeError: as of :func:`require_representation`.
    """
    if not all(isinstance(of_task, Sequence) and not isinstance(of_task, str) for of_task in reads):
        _refuse(f"a {type(reads).__name__} of {', '.join(sorted({type(of_task).__name__ for of_task in reads}))}")
    if len(reads) != num_tasks:
        raise ValueError(f"the cut has {len(reads)} lists of tensors, expected {num_tasks}: one per task")
    seen: dict[tuple[object, ...], object] = {}
    traced = torch.compiler.is_compiling()  # such tensors have no memory
    for task, tensors in enumerate(reads):
        for tensor in tensors:  # type: ignore[attr-defined]
            require_representation(tensor)
            if not isinstance(tensor, Tensor) or traced or tensor.is_meta or tensor.numel() == 0:
                continue
            memory = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
            if seen.setdefault(memory, tensor) is not tensor:
                raise ValueError(
                    f"task {task} reads a tensor of shape {tuple(tensor.shape)} that is in the cut already as another"
                    " object, expected the same object for each task that reads it"
                )


def require_experts(experts: object) -> None:
    """
    Raises:
        TypeError: as of :func:`require_representation`.
        ValueError: not of three dimensions.
    """
    require_representation(experts)
    if isinstance(experts, Tensor) and experts.dim() != 3:
        raise ValueError(f"experts have shape {tuple(experts.shape)}, expected (B, K, d)")


def require_gates(gates: Tensor, experts: Tensor, tasks: Sequence[int], num_tasks: int) -> None:
    """
    Raises:
        ValueError: not (B, R, K) for the experts (B, K, d) and R tasks, or a task outside 0, ..., M - 1.
    """
    batch, num_experts, _ = experts.shape
    if gates.shape != (batch, len(tasks), num_experts):
        raise ValueError(f"gates have shape {tuple(gates.shape)}, expected {(batch, len(tasks), num_experts)}")
    if not all(0 <= task < num_tasks for task in tasks):
        raise ValueError(f"mixtures are of tasks {list(tasks)}, expected tasks from 0 to {num_tasks - 1}")


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


def _refuse(description: str) -> NoReturn:
    raise TypeError(f"the representation is {description}, {_EXPECTED}")
