"""Keeps gradients that are not finite out of the tables. The fused kernel updates them inside backward, before a step
can be skipped."""

from typing import Any

import torch
from torch import Tensor, nn


def guard_tables(tables: nn.Module) -> None:
    """Makes a table's update do nothing in a step whose gradient is not finite.

    The rank that owns a shard receives its gradient from all ranks, so that NaN of one rank's rows reaches all owners,
    and each replaces the whole gradient of its kernel by zeros. SGD, Adagrad and row-wise Adagrad then leave weights
    and state unchanged, bit for bit. Adam does not: its moments decay and still move the weights.

    Args:
        tables: sharded embedding bags with fused optimizers.
    """
    for lookup in tables._lookups:  # type: ignore[union-attr]
        for kernel in lookup._emb_modules:
            kernel.emb_module.register_forward_hook(_guard_output)


def _guard_output(kernel: nn.Module, inputs: Any, output: Tensor) -> None:
    if output.requires_grad:
        output.register_hook(_zero_unless_finite)


def _zero_unless_finite(gradient: Tensor) -> Tensor:
    """(B, D_kernel) gradient of the pooled embeddings of a kernel's tables."""
    finite = torch.isfinite(gradient.sum(dtype=torch.promote_types(gradient.dtype, torch.float32)))
    if gradient.device.type == "cpu":  # reading the flag is free here and saves a pass
        return gradient if finite else torch.zeros_like(gradient)
    return torch.where(finite, gradient, 0.0)
