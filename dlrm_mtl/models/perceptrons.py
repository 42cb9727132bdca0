"""Perceptrons of a CPU, whose matrix products oneDNN computes."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torchrec.modules.mlp import Perceptron


def use_onednn(module: nn.Module) -> None:
    """Has oneDNN compute the matrix products of the float32 perceptrons below a module, on a CPU.

    torch gives float32 products to MKL, which leaves the wide vectors of processors that are not Intel's unused.
    Weights and their names stay. Nothing changes under autocast, in other dtypes, where torch has no oneDNN, or within
    ``torch.backends.mkldnn.flags(enabled=False)``.
    """
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            # The ranker's all are: with a bias, and ReLU.
            if type(child) is Perceptron and child._activation_fn is torch.relu:
                setattr(parent, name, _OneDnnPerceptron(child))


def onednn_linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``linear`` by oneDNN, without autograd: (B, K) and (N, K) to (B, N), float32 on a CPU."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return result


def onednn_computes(rows: Tensor) -> bool:
    """Whether oneDNN is there for a product of such a tensor, and allowed."""
    return (
        rows.device.type == "cpu"
        and rows.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and torch._C._get_mkldnn_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


class _OneDnnPerceptron(Perceptron):
    """Takes the place, and the weights, of another one."""

    def __init__(self, perceptron: Perceptron) -> None:
        linear: nn.Linear = perceptron._linear
        super().__init__(linear.in_features, linear.out_features, device=torch.device("meta"))
        self._linear = linear

    def forward(self, input: Tensor) -> Tensor:
        if not onednn_computes(input):
            return super().forward(input)
        output: Tensor = _LinearRelu.apply(input, self._linear.weight, self._linear.bias)
        return output


class _LinearRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        # oneDNN's own ReLU makes 0 of NaN.
        output = onednn_linear(rows, weight, bias).relu_()
        ctx.save_for_backward(rows, weight, output)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        rows, weight, output = ctx.saved_tensors
        gradient = torch.ops.aten.threshold_backward(gradient, output, 0)
        of_rows, of_weight, of_bias = ctx.needs_input_grad
        return (
            onednn_linear(gradient, weight.t()) if of_rows else None,
            _transposed_product(gradient, rows) if of_weight else None,
            gradient.sum(dim=0) if of_bias else None,
        )


def _transposed_product(left: Tensor, right: Tensor) -> Tensor:
    """(B, N) and (B, K) to (N, K). oneDNN copies the transposed first factor: it had better be the narrow one."""
    if left.shape[1] <= right.shape[1]:
        return onednn_linear(left.t(), right.t())
    return onednn_linear(right.t(), left.t()).t()
