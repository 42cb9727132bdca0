"""The configuration's ranges."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dlrm_mtl.config import ModelConfig, OptimizerConfig, ReaderConfig, ScheduleConfig, ShardingConfig
from dlrm_mtl.run_config import CompareConfig, RunConfig
from tests.messages import naming

NAN, INFINITY = float("nan"), float("inf")


def compare_config(**changes: Any) -> CompareConfig:
    return CompareConfig(Path("data"), Path("out"), **changes)


def run_config(**changes: Any) -> RunConfig:
    return RunConfig(Path("data"), Path("out"), **changes)


OUT_OF_RANGE: list[tuple[Callable[..., Any], str, str, list[Any]]] = [
    (run_config, "batch_size", "batch_size", [0, -1]),
    (run_config, "epochs", "epochs", [0]),
    (run_config, "max_steps", "max_steps", [0, -3]),
    (run_config, "eval_every", "eval_every", [0]),
    (run_config, "log_every", "log_every", [0]),
    (run_config, "warmup_windows", "warmup_windows", [-1]),
    (run_config, "max_nonfinite_steps", "max_nonfinite_steps", [0]),
    (run_config, "timeout_s", "timeout_s", [0]),
    (compare_config, "seeds", "seeds", [0]),
    (lambda **kw: compare_config(first_seed=2, seeds=3, **kw), "planned_seeds", "planned_seeds", [4]),
    (compare_config, "arms", "arms", [(), ("mean",), ("mean", "sum", "mean")]),
    (ModelConfig, "embedding_dim", "model.embedding_dim", [0, -4, 6]),
    (lambda **kw: ModelConfig("dcn", **kw), "embedding_dims", "model.user", [{"user": 6}, {"item": 8, "user": 0}]),
    (ModelConfig, "bottom_mlp", "model.bottom_mlp", [(0,), (8, -1)]),
    (ModelConfig, "numeric_frequencies", "model.numeric_frequencies", [-1, 1025]),
    (ModelConfig, "numeric_deviation", "model.numeric_deviation", [0.0, NAN, INFINITY]),
    (ModelConfig, "over_mlp", "model.over_mlp", [(0,)]),
    (ModelConfig, "head_mlp", "model.head_mlp", [(8, 0)]),
    (ModelConfig, "deep_mlp", "model.deep_mlp", [(0,), ()]),
    (ModelConfig, "projection_sizes", "model.projection_sizes", [(0, 8)]),
    (ModelConfig, "cross_layers", "model.cross_layers", [0]),
    (ModelConfig, "cross_rank", "model.cross_rank", [0]),
    (ScheduleConfig, "warmup_steps", "schedule.warmup_steps", [-1]),
    (ScheduleConfig, "decay_start", "schedule.decay_start", [-1]),
    (ScheduleConfig, "decay_steps", "schedule.decay_steps", [-1]),
    *(
        (ScheduleConfig, name, f"schedule.{name}", [-0.1, 1.1, NAN])
        for name in ("final_scale", "warmup_share", "decay_share")
    ),
    (OptimizerConfig, "table_lr", "optimizer.table_lr", [0.0, -1.0, NAN, INFINITY]),
    (OptimizerConfig, "dense_lr", "optimizer.dense_lr", [0.0, NAN]),
    (OptimizerConfig, "table_eps", "optimizer.table_eps", [0.0, INFINITY]),
    (OptimizerConfig, "weight_decay", "optimizer.weight_decay", [-0.1, NAN]),
    (OptimizerConfig, "clip_norm", "optimizer.clip_norm", [0.0, -1.0, NAN]),
    (ShardingConfig, "reserve", "sharding.reserve", [-0.1, 1.0, NAN]),
    (ShardingConfig, "min_partition", "sharding.min_partition", [0]),
    (ShardingConfig, "cache_load_factor", "sharding.cache_load_factor", [0.0, -0.1, 1.1, NAN]),
    (ReaderConfig, "workers", "reader.workers", [-1]),
    (ReaderConfig, "prefetch", "reader.prefetch", [0]),
    (ReaderConfig, "shuffle_rows", "reader.shuffle_rows", [0]),
]


@pytest.mark.parametrize(
    ("kind", "field", "named", "value"),
    [(kind, field, named, value) for kind, field, named, values in OUT_OF_RANGE for value in values],
)
def test_a_value_out_of_range_is_named(kind: Callable[..., Any], field: str, named: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{named} is .*, expected ") as error:
        kind(**{field: value})
    shown = value["user"] if isinstance(value, dict) else value
    assert repr(shown) in str(error.value)


def test_decay_before_the_end_of_the_warmup_is_refused() -> None:
    with pytest.raises(ValueError, match=naming("schedule.decay_start", 2, "warmup_steps")):
        ScheduleConfig(warmup_steps=5, decay_start=2, decay_steps=1)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"warmup_share": 0.1, "warmup_steps": 5}, ("schedule.warmup_steps", 5, "warmup_share=0.1")),
        ({"decay_share": 0.1, "decay_steps": 5}, ("schedule.decay_steps", 5, "decay_share=0.1")),
        ({"decay_share": 0.1, "decay_start": 5}, ("schedule.decay_start", 5, "decay_share=0.1")),
        ({"decay_start": 5}, ("schedule.decay_steps", 0, "decay_start")),
        ({"warmup_share": 0.7, "decay_share": 0.4}, ("schedule.decay_share", 0.4, "0.3", "warmup_share")),
    ],
)
def test_shares_and_steps_that_contradict_each_other_are_refused(options: Any, named: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match=naming(*named)):
        ScheduleConfig(**options)


@pytest.mark.parametrize(
    ("stated", "steps", "expected"),
    [
        (ScheduleConfig(), 50, (0, 30, 20)),
        (ScheduleConfig(warmup_share=0.1), 50, (5, 30, 20)),
        (ScheduleConfig(warmup_steps=45), 50, (45, 45, 5)),
        (ScheduleConfig(warmup_steps=60), 50, (60, 0, 0)),
        (ScheduleConfig(warmup_share=0.1, decay_share=0.0), 50, (5, 0, 0)),
        (ScheduleConfig(decay_share=0.5), 50, (0, 25, 25)),
        (ScheduleConfig(decay_share=0.29), 100, (0, 71, 29)),
        (ScheduleConfig(warmup_share=0.5, decay_share=0.5), 3, (1, 1, 2)),
        (ScheduleConfig(warmup_share=0.9), 15, (14, 14, 1)),
        (ScheduleConfig(warmup_share=0.1, decay_share=0.9), 15, (1, 1, 14)),
        (ScheduleConfig(warmup_steps=7, decay_share=0.5), 20, (7, 10, 10)),
        (ScheduleConfig(decay_start=6, decay_steps=2, warmup_share=0.25), 20, (5, 6, 2)),
        (ScheduleConfig(decay_share=0.4), 1, (0, 0, 0)),
        (ScheduleConfig(3, 4, 5), 100, (3, 4, 5)),
        (ScheduleConfig(decay_share=0.0), 100, (0, 0, 0)),
    ],
)
def test_shares_in_steps(stated: ScheduleConfig, steps: int, expected: tuple[int, int, int]) -> None:
    in_steps = stated.in_steps(steps)
    assert (in_steps.warmup_steps, in_steps.decay_start, in_steps.decay_steps) == expected
    assert in_steps.final_scale == stated.final_scale
    assert in_steps.in_steps(2 * steps) == in_steps
    assert not in_steps.has_shares


def test_a_decay_before_the_end_of_the_warmup_is_refused_when_the_steps_are_known() -> None:
    with pytest.raises(ValueError, match=naming("20 steps", "schedule.decay_start", 10, "11 (warmup_steps)")):
        ScheduleConfig(warmup_steps=11, decay_share=0.5).in_steps(20)


@pytest.mark.parametrize("interaction", ["dot", "projection"])
def test_one_dimension_where_the_interaction_needs_one(interaction: Any) -> None:
    ModelConfig(interaction, embedding_dim=8, embedding_dims={"user": 8})
    with pytest.raises(ValueError, match=rf"embedding_dims is \{{'item': 4\}}.*embedding_dim=8.*{interaction}"):
        ModelConfig(interaction, embedding_dim=8, embedding_dims={"user": 8, "item": 4})


def test_local_batch_size() -> None:
    assert run_config(batch_size=12).local_batch_size(3) == 4
    with pytest.raises(ValueError, match=naming("batch_size", 12, "5 ranks")):
        run_config(batch_size=12).local_batch_size(5)
