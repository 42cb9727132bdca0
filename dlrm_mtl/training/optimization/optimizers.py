"""Optimizers: tables fused inside backward, the dense part after it, each with its own schedule."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.distributed.optim.apply_optimizer_in_backward import _apply_optimizer_in_backward
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.optim.clipping import GradientClipping, GradientClippingOptimizer
from torchrec.optim.keyed import KeyedOptimizer, KeyedOptimizerWrapper
from torchrec.optim.optimizers import in_backward_optimizer_filter
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad
from torchrec.optim.warmup import WarmupOptimizer, WarmupPolicy, WarmupStage

from dlrm_mtl.config import OptimizerConfig, ScheduleConfig
from dlrm_mtl.training.optimization.step_guard import (
    DeviceSkippingOptimizer,
    GuardedOptimizers,
    HostSkippingOptimizer,
    StepGuard,
)

FOREVER = 1 << 62

FUSED: Mapping[str, Any] = MappingProxyType({"fused": True})
"""torch's optimizers as one fused kernel: the fastest, and on a GPU able to skip a step without the host."""

TABLE_OPTIMIZERS: Mapping[str, Any] = MappingProxyType(
    {
        "rowwise_adagrad": RowWiseAdagrad,
        "adagrad": torch.optim.Adagrad,
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
    }
)


def check_table_optimizer(config: OptimizerConfig, device: str) -> None:
    """
    Raises:
        ValueError: the device has no kernel for the optimizer.
    """
    if config.table == "adam" and device == "cpu":
        raise ValueError(
            "optimizer.table is 'adam', expected rowwise_adagrad, adagrad or sgd: the CPU's table kernels have no other"
        )


def apply_table_optimizer(tables: EmbeddingBagCollection, config: OptimizerConfig, device: torch.device) -> None:
    """Makes the fused kernel update the tables inside backward. Call it before planning and sharding.

    Raises:
        ValueError: see :func:`check_table_optimizer`.
    """
    check_table_optimizer(config, device.type)
    _apply_optimizer_in_backward(TABLE_OPTIMIZERS[config.table], tables.parameters(), _table_arguments(config))


def build_optimizer(
    model: DistributedModelParallel, config: OptimizerConfig, replicated: bool = False
) -> GuardedOptimizers:
    """One optimizer for all: it passes the scheduled rate to the tables and updates the dense part, unless a gradient
    is not finite.

    Args:
        replicated: the tables are whole on every rank and are updated after backward, by the same rule.

    Raises:
        RuntimeError: a table that is not replicated is not updated by the fused kernel.
    """
    dense = dict(in_backward_optimizer_filter(model.named_parameters()))
    guard = StepGuard(list(dense.values()), next(iter(dense.values())).device)
    whole = {name: dense.pop(name) for name in list(dense) if ".embedding_bags." in f".{name}"}
    if whole and not replicated:
        raise RuntimeError(f"table {min(whole)} is not in the fused table optimizer")
    tables: KeyedOptimizer = model.fused_optimizer
    if replicated:
        tables = _guarded(whole, lambda values: _table_optimizer(values, config), guard)
    learned = {name: dense.pop(name) for name in list(dense) if ".loss_weighting." in name}
    parts = [
        ("tables", WarmupOptimizer(tables, _stages(config.table_schedule), config.table_lr)),
        ("dense", _dense_part(dense, config, guard)),
    ]
    if learned:
        # Decay would pull the learned loss weights to their start.
        parts.append(("loss_weights", _dense_part(learned, replace(config, weight_decay=0.0, clip_norm=None), guard)))
    return GuardedOptimizers(parts, guard)


def _guarded(
    parameters: Mapping[str, nn.Parameter],
    build: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
    guard: StepGuard,
    clip_norm: float | None = None,
) -> KeyedOptimizer:
    """An optimizer whose steps the guard can skip, before gradients are clipped."""
    kernel = build(list(parameters.values()))
    optimizer: KeyedOptimizer = KeyedOptimizerWrapper(parameters, lambda _: kernel)
    if clip_norm is not None:
        optimizer = GradientClippingOptimizer(optimizer, GradientClipping.NORM, clip_norm)
    if guard.device.type == "cpu":
        return HostSkippingOptimizer(optimizer, guard)
    return DeviceSkippingOptimizer(optimizer, kernel, guard)


def _table_arguments(config: OptimizerConfig) -> dict[str, Any]:
    arguments = {"lr": config.table_lr}
    return arguments if config.table == "sgd" else {**arguments, "eps": config.table_eps}


def _table_optimizer(tables: list[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    arguments = _table_arguments(config)
    if config.table != "rowwise_adagrad":  # which is torchrec's own
        arguments |= FUSED
    optimizer: torch.optim.Optimizer = TABLE_OPTIMIZERS[config.table](tables, **arguments)
    return optimizer


def _dense_part(parameters: Mapping[str, nn.Parameter], config: OptimizerConfig, guard: StepGuard) -> WarmupOptimizer:
    optimizer = _guarded(parameters, lambda values: _dense_optimizer(values, config), guard, config.clip_norm)
    return WarmupOptimizer(optimizer, _stages(config.dense_schedule), config.dense_lr)


def _dense_optimizer(parameters: list[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    kinds: Mapping[str, Any] = {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "adagrad": torch.optim.Adagrad,
        "sgd": torch.optim.SGD,
    }
    optimizer: torch.optim.Optimizer = kinds[config.dense](
        parameters, lr=config.dense_lr, weight_decay=config.weight_decay, **FUSED
    )
    return optimizer


def _stages(schedule: ScheduleConfig) -> list[WarmupStage]:
    """torchrec's stages. Its own last stage returns to the full rate, so ours never end.

    Raises:
        RuntimeError: the schedule is in shares of a run.
    """
    if schedule.has_shares:
        raise RuntimeError(f"{schedule} has shares, expected steps: the result of in_steps")
    stages = []
    if schedule.warmup_steps:
        first = 1 / schedule.warmup_steps
        stages.append(WarmupStage(WarmupPolicy.LINEAR, max_iters=schedule.warmup_steps, value=first))
    if schedule.decay_steps:
        if schedule.decay_start > schedule.warmup_steps:
            stages.append(WarmupStage(WarmupPolicy.CONSTANT, max_iters=schedule.decay_start, value=1.0))
        end = schedule.decay_start + schedule.decay_steps
        stages.append(
            WarmupStage(
                WarmupPolicy.INTERPOLATE,
                max_iters=end,
                value=1.0,
                end_value=schedule.final_scale,
                start_interpolating_iters=schedule.decay_start,
            )
        )
        stages.append(WarmupStage(WarmupPolicy.CONSTANT, max_iters=FOREVER, value=schedule.final_scale))
    return stages
