"""A configuration without any default value, and the values of a configuration."""

from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from dlrm_mtl.config import (
    CheckpointConfig,
    CommsConfig,
    ModelConfig,
    OptimizerConfig,
    ReaderConfig,
    ScheduleConfig,
    ShardingConfig,
)
from dlrm_mtl.run_config import TrainConfig

REQUIRED = ("--data", "data", "--out", "out")

CHANGED = TrainConfig(
    data=Path("some data"),
    out=Path("/some/out"),
    batch_size=96,
    epochs=3,
    max_steps=7,
    eval_every=5,
    log_every=4,
    warmup_windows=0,
    loss_reduction="defined",
    bf16=True,
    tf32=True,
    on_bad_shard="skip",
    check="footers",
    segments=("hour", "user"),
    max_nonfinite_steps=3,
    init_from=Path("runs/other/checkpoints/step-00000010"),
    checkpoint=CheckpointConfig(every_steps=100, every_minutes=2.5, keep=3),
    show_plan=True,
    timeout_s=60,
    cache=Path("/some/cache"),
    mirror=Path("/some/mirror"),
    logger="package.module:Class",
    prometheus=Path("/some/run.prom"),
    model=ModelConfig(
        interaction="dcn",
        embedding_dim=8,
        embedding_dims={"user_id": 4, "item": 12},
        bottom_mlp=(),
        numeric_frequencies=6,
        numeric_deviation=0.5,
        cross_layers=3,
        cross_rank=5,
        deep_mlp=(9,),
        projection_sizes=(2, 3),
        over_mlp=(17, 5),
        sharing="my_module:MyArchitecture",
        shared_experts=3,
        own_experts=2,
        expert_mlp=(32, 16),
        gate_mlp=(8,),
        levels=3,
        relation="esmm",
        head_mlp=(),
    ),
    optimizer=OptimizerConfig(
        table="sgd",
        table_lr=1e-7,
        table_eps=1e-5,
        dense="adamw",
        dense_lr=0.25,
        weight_decay=0.5,
        clip_norm=2.5,
        table_schedule=ScheduleConfig(3, 4, 5, 0.5),
        dense_schedule=ScheduleConfig(1, 2, 6, 0.125),
    ),
    sharding=ShardingConfig(
        ("table_wise", "column_wise"), 0.5, 4, ("fused_uvm_caching",), 0.1, True, CommsConfig("fp16", "bf16")
    ),
    reader=ReaderConfig(2, 3, 1000),
    arm="multibalance:beta=0.1,prior=0.2/0.8",
    seed=11,
)

BY_SHARES = replace(
    CHANGED,
    optimizer=replace(
        CHANGED.optimizer,
        table_schedule=ScheduleConfig(final_scale=0.5, warmup_share=0.25, decay_share=0.75),
        dense_schedule=ScheduleConfig(final_scale=0.125, warmup_share=0.1, decay_share=0.4),
    ),
)
"""The same with other schedules: of one option in steps and one as a share, either has its default."""


def leaves(config: Any, prefix: str = "") -> dict[str, Any]:
    """Every value of a configuration, by dotted name."""
    values: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            values |= leaves(value, f"{prefix}{field.name}.")
        else:
            values[prefix + field.name] = value
    return values
