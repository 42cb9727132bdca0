"""Limits of the machine: memory bandwidth, and rate of matrix products of a model's sizes."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dlrm_mtl.benchmarks.windows import Contender
from dlrm_mtl.models.onednn import onednn_computes, onednn_linear

STREAM_ELEMENTS = 1 << 24
"""Elements of each of three float32 tensors, together 200 MB, larger than any cache."""

ROUNDS = 7


@dataclass(frozen=True)
class Work:
    """The work that one rank's training step must do in any implementation."""

    dense_flops: int
    """Multiplications and additions of matrix products, forward and backward."""
    table_bytes: int
    """Bytes that the embedding tables must move."""


@dataclass(frozen=True)
class Limits:
    """Rates of the machine, and the shortest possible step if matrix products and tables do not overlap."""

    bytes_per_second: float
    """Bytes per second by STREAM's triad; the best of several rounds."""
    flops_per_second: float
    """FLOP per second of the model's matrix products; the best of several rounds."""
    dense_flops: int
    table_bytes: int
    dense_seconds: float
    table_seconds: float

    @property
    def seconds(self) -> float:
        return self.dense_seconds + self.table_seconds

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "seconds": self.seconds}


def triad(device: torch.device, elements: int = STREAM_ELEMENTS) -> Contender:
    """STREAM's triad a = b + 3 c (McCalpin, 1995). Returns the bytes that it moves: two tensors read, one written."""
    first, second, third = (torch.ones(elements, device=device) for _ in range(3))

    def move() -> int:
        torch.add(second, third, alpha=3.0, out=first)
        return 3 * first.nbytes

    return move


def measure_limits(
    model: nn.Module, work: Work, rows: int, device: torch.device, synchronize: Callable[[], None]
) -> Limits:
    """Collective if ``synchronize`` is: all ranks then use memory and cores at the same time, as in a step.

    Args:
        rows: local rows of a batch.
    """
    memory = _best_rate(triad(device), synchronize)
    matrices = _best_rate(_products(linear_sizes(model), rows, device), synchronize)
    return Limits(
        memory, matrices, work.dense_flops, work.table_bytes, work.dense_flops / matrices, work.table_bytes / memory
    )


def count_dense_flops(step: Callable[[], object]) -> int:
    """FLOPs of the matrix products in ``step``: torch's by its counter, and oneDNN's."""
    with FlopCounterMode(display=False, custom_mapping={torch.ops.mkldnn._linear_pointwise: _linear_flops}) as counter:
        step()
    return counter.get_total_flops()


def count_table_bytes(ids: int, bags: int, dim: int, itemsize: int = 4) -> int:
    """Bytes that tables must move in a step: each id's row is read in forward, and read and written in the update with
    one value of row-wise Adagrad; each bag's pooled embedding is written and its gradient read.

    Args:
        ids: all ids of the batch.
        bags: rows of the batch times features.
        dim: embedding dimension D.
    """
    return itemsize * (ids * (3 * dim + 2) + bags * 2 * dim)


def linear_sizes(model: nn.Module) -> list[tuple[int, int]]:
    """Distinct pairs of in and out features of the model's linear layers."""
    layers = (module for module in model.modules() if isinstance(module, nn.Linear))
    return sorted({(layer.in_features, layer.out_features) for layer in layers})


def format_limits(limits: Mapping[str, Any]) -> str:
    """In two lines."""
    return (
        f"At best: {limits['bytes_per_second'] / 1e9:.1f} GB/s of memory,"
        f" {limits['flops_per_second'] / 1e9:.1f} GFLOP/s of the model's matrix products, per rank.\n"
        f"A step's dense part, {limits['dense_flops'] / 1e9:.2f} GFLOP, takes {limits['dense_seconds'] * 1e3:.2f} ms of"
        f" it, its tables, {limits['table_bytes'] / 1e6:.1f} MB, {limits['table_seconds'] * 1e3:.2f} ms; together"
        f" {limits['seconds'] * 1e3:.2f} ms."
    )


def _products(sizes: Sequence[tuple[int, int]], rows: int, device: torch.device) -> Contender:
    """The three products of each linear layer: forward, and the gradients of weight and input."""
    factors = [
        tuple(torch.ones(shape, device=device) for shape in ((rows, columns), (width, columns), (rows, width)))
        for columns, width in sizes
    ]

    def multiply() -> int:
        flops = 0
        for inputs, weight, gradient in factors:
            _ = linear(inputs, weight), linear(gradient, weight.T), linear(gradient.T, inputs.T)
            flops += 6 * inputs.numel() * weight.shape[0]
        return flops

    linear = onednn_linear if onednn_computes(factors[0][0]) else nn.functional.linear
    return multiply


def _linear_flops(rows: Sequence[int], weight: Sequence[int], *_: object, **__: object) -> int:
    """FLOPs from the shapes (B, K) and (N, K)."""
    return 2 * rows[0] * rows[1] * weight[0]


def _best_rate(contender: Contender, synchronize: Callable[[], None]) -> float:
    rates = []
    for _ in range(ROUNDS + 1):
        synchronize()
        start = time.perf_counter()
        done = contender()
        synchronize()
        rates.append(done / (time.perf_counter() - start))
    return max(rates[1:])
