"""The sharding plan: choices, inputs, failures."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dlrm_mtl.config import ModelConfig, OptimizerConfig, ShardingConfig
from dlrm_mtl.distributed.host_memory import host_memory
from dlrm_mtl.distributed.plan_records import describe_plan, format_plan, summarize_plan
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.distributed.sharding import allowed_kinds
from dlrm_mtl.model_schema import CategoricalFeature
from dlrm_mtl.schema import Schema
from dlrm_mtl.training.arm import make_plan
from tests.distributed.training import run_config
from tests.messages import mentions, naming
from tests.models.batches import SCHEMA
from tests.ranks import RankPool

GIGANTIC = replace(SCHEMA, categorical=(CategoricalFeature("user", 10**12), CategoricalFeature("item", 10)))
"""A table of 64 TB."""
SGD = OptimizerConfig(table="sgd")


def config(kinds: tuple[Any, ...]) -> ShardingConfig:
    return ShardingConfig(kinds=kinds)


def tables_or_error(
    ranks: Ranks, schema: Schema, sharding: ShardingConfig, optimizer: OptimizerConfig, model: ModelConfig
) -> tuple[Any, float]:
    """The plan as records, or the message of a ValueError; and the seconds it took."""
    run = run_config(Path("unused"), sharding=sharding, optimizer=optimizer, model=model)
    start = time.perf_counter()
    try:
        found: Any = describe_plan(make_plan(run, schema, ranks))
    except ValueError as error:
        found = str(error)
    return found, time.perf_counter() - start


def plan(
    pool: RankPool,
    world_size: int,
    schema: Schema = SCHEMA,
    kinds: tuple[Any, ...] = (),
    optimizer: OptimizerConfig = SGD,
    model: ModelConfig | None = None,
) -> Any:
    """The result of all ranks, which must be equal."""
    results = pool.run(world_size, tables_or_error, schema, config(kinds), optimizer, model or ModelConfig())
    assert all(found == results[0][0] for found, _ in results)
    return results[0][0]


def test_default_kinds_leave_training_independent_of_the_plan() -> None:
    for optimizer in ("rowwise_adagrad", "sgd"):
        assert allowed_kinds(config(()), optimizer, "cpu") == ["table_wise"]  # type: ignore[arg-type]
        found = allowed_kinds(config(()), optimizer, "cuda")  # type: ignore[arg-type]
        assert found == ["table_wise", "row_wise", "table_row_wise"]


@pytest.mark.parametrize("kind", ["row_wise", "table_row_wise", "grid_shard"])
def test_kinds_that_a_cpu_cannot_run_are_refused(kind: str) -> None:
    assert allowed_kinds(config((kind,)), "sgd", "cuda") == [kind]
    with pytest.raises(ValueError, match=naming("sharding.kinds", f"'{kind}'", "table_wise", "CPU")):
        allowed_kinds(config(("table_wise", kind)), "sgd", "cpu")


@pytest.mark.parametrize("kind", ["column_wise", "table_column_wise", "grid_shard"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_column_shards_are_refused_with_rowwise_adagrad(kind: str, device: str) -> None:
    if kind != "grid_shard":
        assert allowed_kinds(config((kind,)), "adagrad", device) == [kind]
    with pytest.raises(ValueError, match=naming("sharding.kinds", f"'{kind}'")):
        allowed_kinds(config((kind,)), "rowwise_adagrad", device)


@pytest.mark.parametrize(
    ("world_size", "sharing", "figures"),
    [(1, "bottom", ("2 tables", "58.21 TiB")), (2, "bottom", ()), (3, "stem", ("8 tables", "6 of them", "232.8 TiB"))],
)
def test_no_plan_is_an_error_on_every_rank_at_once(
    rank_pool: RankPool, world_size: int, sharing: str, figures: tuple[str, ...]
) -> None:
    results = rank_pool.run(world_size, tables_or_error, GIGANTIC, config(()), SGD, ModelConfig(sharing=sharing))
    for message, seconds in results:
        assert message.startswith("no sharding plan fits: ")
        assert message.isprintable()  # one line
        assert mentions(message, *figures, "host memory", "A shard of user")
        assert message == results[0][0]
        assert seconds < 20


def test_a_kind_that_the_optimizer_forbids_is_an_error_on_every_rank(rank_pool: RankPool) -> None:
    message = plan(rank_pool, 2, kinds=("column_wise",), optimizer=OptimizerConfig())
    assert mentions(message, "sharding.kinds", "'column_wise'")


def test_memory_is_the_machines_less_the_reserve(rank_pool: RankPool) -> None:
    """A table of half the memory fits, unless more than half is reserved."""
    memory = host_memory()
    half = replace(SCHEMA, categorical=(CategoricalFeature("user", memory // 2 // (16 * 4)),))
    for reserve, fits in ((0.0, True), (0.4, True), (0.6, False)):
        [(found, _)] = rank_pool.run(1, tables_or_error, half, ShardingConfig(reserve=reserve), SGD, ModelConfig())
        assert isinstance(found, list) == fits, found


def test_optimizer_state_is_counted(rank_pool: RankPool) -> None:
    """Adagrad doubles a table; row-wise Adagrad adds one value to 16."""
    memory = host_memory()
    large = replace(SCHEMA, categorical=(CategoricalFeature("user", int(0.7 * memory) // (16 * 4)),))
    for optimizer, fits in (("sgd", True), ("rowwise_adagrad", True), ("adagrad", False)):
        chosen = OptimizerConfig(table=optimizer)  # type: ignore[arg-type]
        assert isinstance(plan(rank_pool, 1, large, optimizer=chosen), list) == fits, optimizer


def test_records_of_a_plan(rank_pool: RankPool) -> None:
    tables = plan(rank_pool, 2)
    assert [table["table"] for table in tables] == ["item", "tags", "user"]
    rows = {"item": 30, "tags": 7, "user": 50}
    for table in tables:
        assert table["sharding_type"] == "table_wise"
        assert table["compute_kernel"] == "fused"
        [shard] = table["shards"]
        assert shard["rank"] in (0, 1)
        assert shard["offset"] == [0, 0]
        assert shard["size"] == [rows[table["table"]], 16]
    assert {table["shards"][0]["rank"] for table in tables} == {0, 1}


def test_column_shards_keep_the_smallest_width(rank_pool: RankPool) -> None:
    model = ModelConfig(embedding_dim=32)
    tables = plan(rank_pool, 2, kinds=("column_wise",), model=model)
    for table in tables:
        assert table["sharding_type"] == "column_wise"
        widths = [shard["size"][1] for shard in table["shards"]]
        assert sum(widths) == 32
        assert min(widths) >= 16
        assert [shard["offset"][1] for shard in table["shards"]] == list(range(0, 32, widths[0]))


def test_the_plan_as_text(rank_pool: RankPool) -> None:
    tables = plan(rank_pool, 2, kinds=("column_wise",), model=ModelConfig(embedding_dim=32))
    header, *lines = format_plan(tables).splitlines()
    assert header.split()[:3] == ["table", "sharding", "kernel"]
    assert [line.split()[0] for line in lines] == ["item", "tags", "user"]
    for line, table in zip(lines, tables, strict=True):
        assert table["sharding_type"] in line
        assert table["compute_kernel"] in line
        [first, second] = table["shards"]
        assert first["size"] == second["size"]
        assert line.endswith(f" 0-1: {first['size'][0]} x {first['size'][1]}") == (first["rank"] < second["rank"])


def test_text_joins_shards_of_one_size_on_neighbouring_ranks() -> None:
    placed = [(0, 5), (1, 5), (2, 4), (4, 4), (5, 4), (3, 4)]
    shards = [{"rank": rank, "offset": [0, 0], "size": [rows, 8]} for rank, rows in placed]
    record = {"table": "t", "sharding_type": "row_wise", "compute_kernel": "fused", "shards": shards}
    assert format_plan([record]).splitlines()[1].split(maxsplit=3)[3] == "0-1: 5 x 8, 2: 4 x 8, 4-5: 4 x 8, 3: 4 x 8"


def test_the_summary_of_a_plan() -> None:
    """Weights are of four bytes each."""

    def table(kind: str, kernel: str, *placed: tuple[int, int]) -> dict[str, Any]:
        shards = [{"rank": rank, "offset": [0, 0], "size": [rows, 8]} for rank, rows in placed]
        return {"table": "t", "sharding_type": kind, "compute_kernel": kernel, "shards": shards}

    tables = [
        table("table_wise", "fused", (0, 1024)),
        table("row_wise", "fused_uvm_caching", (0, 512), (1, 512)),
        table("table_wise", "fused", (1, 256)),
    ]
    assert summarize_plan(tables) == (
        "3 tables: 2 table_wise (fused), 1 row_wise (fused_uvm_caching); 72 KiB of weights, at most 48 KiB on a rank"
    )


@pytest.mark.parametrize("heavy", ["first", "second", "third"])
def test_pooling_factors_reach_the_planner(rank_pool: RankPool, heavy: str) -> None:
    """Of three tables of one size, that with long bags gets a rank of its own."""
    features = tuple(
        CategoricalFeature(name, 1000, multi_hot=True, mean_length=200.0 if name == heavy else 1.0)
        for name in ("first", "second", "third")
    )
    ranks = {t["table"]: t["shards"][0]["rank"] for t in plan(rank_pool, 2, replace(SCHEMA, categorical=features))}
    assert [name for name in ranks if list(ranks.values()).count(ranks[name]) == 1] == [heavy]
