"""Multi-layer perceptrons on a CPU, whose matrix products oneDNN computes.

torch gives float32 products to MKL, which may be half as fast on processors that are not Intel's (docs/performance.md).
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torchrec.modules.mlp import Perceptron


def use_onednn(module: nn.Module) -> None:
    """Lets oneDNN compute the float32 MLPs of a module on a CPU: every Sequential of perceptrons with ReLU and linear
    layers, all with a bias.

    Weights and their names stay; hooks of an MLP's parts are no longer called. Nothing changes under autocast, in other
    dtypes, or where torch has no oneDNN or ``torch.backends.mkldnn.enabled`` is False.
    """
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Sequential and all(_is_layer(part) for part in child):
                setattr(parent, name, OneDnnMlp(OrderedDict(child.named_children())))


def onednn_linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``linear`` by oneDNN, without autograd: (B, K) and (N, K) to (B, N), float32 on a CPU."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return result


def onednn_computes(rows: Tensor) -> bool:
    """Whether oneDNN is available for products of such a tensor, and enabled."""
    return (
        rows.device.type == "cpu"
        and rows.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
        and not torch.is_autocast_enabled("cpu")
    )


class Layer(NamedTuple):
    """A linear layer, with or without ReLU behind it."""

    weight: Tensor
    bias: Tensor
    relu: bool


class OneDnnMlp(nn.Sequential):
    """Replaces a Sequential, and takes over its parts."""

    def forward(self, input: Tensor) -> Tensor:
        if not onednn_computes(input):
            return super().forward(input)  # type: ignore[no-any-return]
        layers = self._layers()
        tensors = [tensor for layer in layers for tensor in (layer.weight, layer.bias)]
        return _Mlp.apply(input, [layer.relu for layer in layers], *tensors)  # type: ignore[no-any-return]

    def _layers(self) -> list[Layer]:
        return [
            Layer(part._linear.weight, part._linear.bias, relu=True)
            if isinstance(part, Perceptron)
            else Layer(part.weight, part.bias, relu=False)  # type: ignore[arg-type]
            for part in self
        ]


class _Mlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, relus: list[bool], *tensors: Tensor) -> Tensor:
        values = _run(_layers(tensors, relus), rows.contiguous())
        ctx.relus = relus
        ctx.save_for_backward(*tensors, *values)
        return values[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        count = 2 * len(ctx.relus)
        tensors, values = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        of_tensors: list[Tensor] = []
        layers = _layers(tensors, ctx.relus)
        # Of experts that were stacked it is a slice, for which oneDNN has only its slow reference code.
        gradient = gradient.contiguous()
        for layer, rows, output in zip(reversed(layers), reversed(values[:-1]), reversed(values[1:]), strict=True):
            if layer.relu:
                gradient = torch.ops.aten.threshold_backward(gradient, output, 0)
            of_tensors = [_product(gradient, rows), gradient.sum(dim=0), *of_tensors]
            gradient = onednn_linear(gradient, layer.weight.t())
        return gradient, None, *of_tensors


def _run(layers: Sequence[Layer], rows: Tensor) -> list[Tensor]:
    values = [rows]
    for layer in layers:
        rows = onednn_linear(rows, layer.weight, layer.bias)
        # oneDNN's own ReLU makes 0 of NaN.
        values.append(rows.relu_() if layer.relu else rows)
    return values


def _layers(tensors: Sequence[Tensor], relus: Sequence[bool]) -> list[Layer]:
    return [Layer(*each) for each in zip(tensors[::2], tensors[1::2], relus, strict=True)]


def _product(left: Tensor, right: Tensor) -> Tensor:
    """(B, N) and (B, K) to (N, K). oneDNN copies its first factor if it is transposed: the narrow one, then."""
    if left.shape[1] <= right.shape[1]:
        return onednn_linear(left.t(), right.t())
    return onednn_linear(right.t(), left.t()).t()


def _is_layer(part: nn.Module) -> bool:
    if type(part) is Perceptron:
        linear: Any = part._linear
        return part._activation_fn is torch.relu and linear.bias is not None
    return type(part) is nn.Linear and part.bias is not None
