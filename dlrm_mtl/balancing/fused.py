"""The two operations on whole gradients, compiled by torch.compile for a CPU: each reads every gradient once."""

import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

MIN_PRODUCTS = 3 << 20
"""Elements of one gradient times pairs of gradients; where there are fewer, operations stay plain. Compiling costs each
process some seconds, which so many products earn back within some thousand steps."""

MAX_TASKS = 16
"""More gradients stay plain: compiling takes time quadratic in M, and accumulators for every pair leave the registers
at M = 8."""

ROW_ELEMENTS = 2048
"""Products are summed in float32 over rows of so many elements, and over rows in float64. Longer rows torch.compile
would sum by a slower algorithm."""

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def fused_products(flat: Sequence[Tensor]) -> Tensor | None:
    """Inner products of every pair i <= j of M gradients, in the order of nested loops over i and j.

    Args:
        flat: M tensors (N,) of one dtype; N is a multiple of ROW_ELEMENTS.

    Returns:
        (M (M + 1) / 2,) float64; None where the plain operation is to be used.
    """
    if not is_fused(flat):
        return None
    rows = _operation(_row_products, flat)(_bare(flat))
    return None if rows is None else rows.sum(dim=1, dtype=torch.float64)


def fused_weighted_sum(gradients: Sequence[Tensor], weights: Tensor) -> Tensor | None:
    """Sum over m of weights[m] * gradients[m], accumulated in float32.

    Args:
        gradients: M tensors of one shape and dtype.
        weights: (M,) float32.

    Returns:
        A tensor like each gradient; None where the plain operation is to be used.
    """
    if not is_fused(gradients):
        return None
    combined = _operation(_weighted_sum, gradients)(_bare(gradients), weights.detach())
    return None if combined is None else combined.view(gradients[0].shape)


def least_elements(num_tasks: int) -> int:
    """Elements of one gradient from which operations on M of them are compiled."""
    return -(-MIN_PRODUCTS // (num_tasks * (num_tasks + 1) // 2))


def is_fused(gradients: Sequence[Tensor]) -> bool:
    """Whether operations on these gradients are compiled, as far as is known before the first one."""
    first = gradients[0]
    return (
        first.is_cpu
        and first.numel() >= least_elements(len(gradients))
        and len(gradients) <= MAX_TASKS
        and first.dtype in DTYPES
        # Inside of a caller's own torch.compile the plain operations are what is traced.
        and not torch.compiler.is_compiling()
        # Under such a mode, which would see no operators, torch.compile decides for good not to compile.
        and not is_in_torch_dispatch_mode()
        and all(type(gradient) is Tensor and gradient.is_contiguous() for gradient in gradients)
        and _compiler().works
    )


class _Compiler:
    """torch.compile, until it fails."""

    def __init__(self) -> None:
        self.works = True

    def report(self, error: Exception) -> None:
        self.works = False
        reason = str(error).strip().splitlines()[0]
        warnings.warn(
            f"gradients are balanced by plain PyTorch, several times slower, since torch.compile failed: {reason}",
            stacklevel=2,
        )


class _Operation:
    """A function of gradients, compiled in its first call.

    Returns None where torch.compile fails, or runs the function as it is: disabled by the user, or at its limit of
    recompilations.
    """

    def __init__(self, function: Callable[..., Tensor | None], num_tasks: int, compiler: _Compiler) -> None:
        self._compiler = compiler
        pairs = num_tasks * (num_tasks + 1) // 2
        self._compiled = torch.compile(  # type: ignore[call-overload]  # its overloads lack isolate_recompiles
            function,
            dynamic=True,  # one compilation for all batch sizes
            isolate_recompiles=True,  # each M and dtype has the function's limit of recompilations to itself
            options={
                # One loop for all pairs: several would read the gradients several times.
                "cpp.max_horizontal_fusion_size": pairs,
                "max_fusion_size": 2 * pairs + 1,
                "cpp.enable_floating_point_contract_flag": "fast",
            },
        )

    def __call__(self, *arguments: object) -> Tensor | None:
        try:
            # Always without autograd, in and out of backward, so that both share a compilation.
            with torch.no_grad():
                return self._compiled(*arguments)
        except torch._dynamo.exc.TorchDynamoException as error:
            self._compiler.report(error)
            return None


@lru_cache
def _compiler() -> _Compiler:
    return _Compiler()


def _operation(function: Callable[..., Tensor | None], gradients: Sequence[Tensor]) -> _Operation:
    return _cached_operation(function, len(gradients), gradients[0].dtype)


@lru_cache
def _cached_operation(function: Callable[..., Tensor | None], num_tasks: int, dtype: torch.dtype) -> _Operation:
    return _Operation(function, num_tasks, _compiler())


def _bare(gradients: Sequence[Tensor]) -> list[Tensor]:
    """One-dimensional, and no views to autograd: torch.compile would look at the sizes of what they are views of."""
    return [gradient.view(-1).detach() for gradient in gradients]


def _row_products(flat: list[Tensor]) -> Tensor | None:
    """(M (M + 1) / 2, N / ROW_ELEMENTS) float32."""
    if not torch.compiler.is_compiling():
        return None
    rows = [gradient.view(-1, ROW_ELEMENTS).float() for gradient in flat]
    tasks = range(len(rows))
    return torch.stack([(rows[i] * rows[j]).sum(dim=1) for i in tasks for j in tasks[i:]])


def _weighted_sum(flat: list[Tensor], weights: Tensor) -> Tensor | None:
    if not torch.compiler.is_compiling():
        return None
    total = flat[0].float() * weights[0]
    for m in range(1, len(flat)):
        total = total + flat[m].float() * weights[m]
    return total.to(flat[0].dtype)
