"""The reported cost of a plan against numbers counted by hand, and the choice of the plan."""

import json
from typing import Any

import pytest

from dlrm_mtl.config import DenseOptimizer, ModelConfig
from dlrm_mtl.distributed.plan_records import describe_plan
from dlrm_mtl.distributed.planner import TablePlan
from dlrm_mtl.model_parts import INTERACTIONS
from dlrm_mtl.models.dense_memory import dense_memory
from dlrm_mtl.planning.candidate import plan_candidate
from dlrm_mtl.planning.memory import memory_by_rank
from dlrm_mtl.planning.presets import CRITEO_IDS_PER_ROW, CRITEO_ROWS, PRESETS
from dlrm_mtl.planning.report import make_report
from dlrm_mtl.planning.text import format_report
from tests.models.batches import SCHEMA, build
from tests.planning.test_presets import parse

ROWS = sum(CRITEO_ROWS)
BATCH = 65_536


def report(*arguments: str) -> dict[str, Any]:
    return make_report(parse("--preset", "criteo-1tb", *arguments))


@pytest.fixture(scope="module")
def one_host() -> dict[str, Any]:
    return report()


def memory(found: dict[str, Any], part: str, kind: str = "hbm") -> int:
    return sum(found["plan"]["memory"][kind][part])


def test_the_tables_of_one_host(one_host: dict[str, Any]) -> None:
    assert one_host["fits"]
    assert one_host["smallest_hosts"] == 1
    assert one_host["plan"]["memory"].keys() == {"hbm"}
    weights = 128 * 4 * ROWS
    assert weights == 104_542_509_056
    # The estimator rounds each shard up.
    assert weights <= memory(one_host, "tables") <= weights + 1000
    assert 4 * ROWS <= memory(one_host, "state") <= 4 * ROWS + 1000
    placed = [table["shards"] for table in one_host["plan"]["tables"]]
    assert sum(shard["size"][0] for shards in placed for shard in shards) == ROWS
    assert {shard["size"][1] for shards in placed for shard in shards} == {128}


def test_tables_of_each_task_are_counted() -> None:
    bytes_by_sharing = {}
    for sharing in ("bottom", "stem"):
        plan = plan_candidate(parse("--preset", "criteo-1tb", "--model.sharing", sharing), SCHEMA, 1).plan
        assert isinstance(plan, TablePlan)
        bytes_by_sharing[sharing] = [sum(kind.tables) for kind in memory_by_rank(plan)]
        assert len(describe_plan(plan.plan)) == 3 * (1 + 3 * (sharing == "stem"))
    assert bytes_by_sharing["stem"] == [4 * size for size in bytes_by_sharing["bottom"]]


def test_inputs_and_outputs_of_one_host(one_host: dict[str, Any]) -> None:
    """Ids of 8 bytes come to the shards once; a row-wise table's pooled outputs leave every rank."""
    kinds = [table["sharding_type"] for table in sorted(one_host["plan"]["tables"], key=lambda t: int(t["table"][4:]))]
    copies = [8 if kind == "row_wise" else 1 for kind in kinds]
    assert set(kinds) == {"table_wise", "row_wise"}
    assert memory(one_host, "io") == BATCH * sum(
        8 * ids + copy * 128 * 4 for ids, copy in zip(CRITEO_IDS_PER_ROW, copies, strict=True)
    )


@pytest.mark.parametrize(("optimizer", "values"), [("sgd", 0), ("adagrad", 1), ("adam", 2)])
def test_optimizer_state_and_dimension(optimizer: str, values: int) -> None:
    found = report("--optimizer.table", optimizer, "--model.embedding-dim", "64")
    assert memory(found, "tables") == pytest.approx(64 * 4 * ROWS, abs=1000)
    assert memory(found, "state") == pytest.approx(values * 64 * 4 * ROWS, abs=1000)


def test_the_step_is_the_slowest_ranks_sum(one_host: dict[str, Any]) -> None:
    times = one_host["plan"]["step_time_ms"]
    parts = ("fwd_compute", "fwd_comms", "bwd_compute", "bwd_comms", "prefetch_compute")
    for rank, total in enumerate(times["total"]):
        assert total == pytest.approx(sum(times[part][rank] for part in parts))
    assert times["total"][times["slowest_rank"]] == max(times["total"])
    mean = sum(times["total"]) / 8
    assert one_host["plan"]["imbalance"]["step_time"] == pytest.approx(max(times["total"]) / mean)
    # Every id's row is read once; this is the shortest time at 897 GiB/s, over all ranks.
    reading = 1000 * BATCH * 214 * 128 * 4 / (897 * 2**30)
    assert 0.9 * reading < sum(times["fwd_compute"]) < 1.5 * reading


def test_bandwidths_set_the_times() -> None:
    """With one sharding type each part, summed over ranks, follows its bandwidth; the assignment to ranks may
    change."""
    kind = ("--sharding.kinds", "table_row_wise", "--hosts", "2")
    base, memory_twice, network_twice = (
        report(*kind, *more)["plan"]["step_time_ms"]
        for more in ((), ("--hbm-bandwidth", "1794GiB/s"), ("--inter-host-bandwidth", "25GiB/s"))
    )
    assert sum(memory_twice["fwd_compute"]) == pytest.approx(sum(base["fwd_compute"]) / 2)
    assert sum(memory_twice["fwd_comms"]) == pytest.approx(sum(base["fwd_comms"]))
    assert sum(network_twice["fwd_compute"]) == pytest.approx(sum(base["fwd_compute"]))
    assert sum(base["fwd_comms"]) / 2 < sum(network_twice["fwd_comms"]) < sum(base["fwd_comms"])
    assert sum(network_twice["input_dist_comms"]) == pytest.approx(sum(base["input_dist_comms"]) / 2)


def test_tables_are_cached_only_where_memory_is_short(one_host: dict[str, Any]) -> None:
    assert {table["compute_kernel"] for table in one_host["plan"]["tables"]} == {"fused"}
    tight = report("--hbm", "11GiB")
    assert tight["fits"]
    assert {table["compute_kernel"] for table in tight["plan"]["tables"]} == {"fused", "fused_uvm_caching"}
    assert max(tight["plan"]["memory"]["hbm"]["total"]) <= tight["assumptions"]["usable"]["hbm"]
    assert 0 < max(tight["plan"]["memory"]["ddr"]["total"]) <= tight["assumptions"]["usable"]["ddr"]
    without = report("--hbm", "11GiB", "--sharding.kernels", "fused")
    assert not without["fits"]
    assert without["smallest_hosts"] == 2


def test_what_does_not_fit_says_by_how_much() -> None:
    never = ("--sharding.kernels", "fused", "--hbm", "4GiB")
    found = report(*never)
    assert (found["fits"], found["plan"], found["smallest_hosts"]) == (False, None, 4)
    [shortfall] = found["shortfalls"]
    [hbm] = shortfall["memory"]
    assert hbm["has"] == 8 * int(0.85 * 4 * 2**30)
    assert hbm["missing"] == hbm["needs"] - hbm["has"] > 0
    assert hbm["needs"] > (128 + 1) * 4 * ROWS
    assert "too little" in format_report(found)
    config = parse("--preset", "criteo-1tb", *never)
    plans = [plan_candidate(config, PRESETS["criteo-1tb"].schema, hosts).plan for hosts in (2, 4)]
    assert [isinstance(plan, TablePlan) for plan in plans] == [False, True]


def test_the_dense_part_must_find_room_in_the_reserve() -> None:
    found = report("--sharding.reserve", "0.001")
    assert found["plan"] is not None
    assert (found["fits"], found["smallest_hosts"]) == (False, None)
    assert "sharding.reserve is too small" in format_report(found)


@pytest.mark.parametrize(("interaction", "sharing"), [*((name, "bottom") for name in INTERACTIONS), ("dot", "stem")])
def test_the_dense_part_is_the_rankers(interaction: str, sharing: str) -> None:
    config = ModelConfig(interaction=interaction, over_mlp=(8,), sharing=sharing)
    parameters = sum(parameter.numel() for parameter in build(SCHEMA, config).dense_part.parameters())
    sizes: dict[DenseOptimizer, int] = {"sgd": 8, "adam": 16}
    for optimizer, size in sizes.items():
        memory = dense_memory(SCHEMA, config, optimizer)
        assert (memory.total_parameters, memory.bytes) == (parameters, size * parameters)


def test_the_text_is_short_on_many_ranks() -> None:
    found = report("--hosts", "4", "--batch-size", "8192")
    json.dumps(found, allow_nan=False)
    lines = format_report(found).splitlines()
    assert len(lines) < 80
    assert all(len(line) <= 160 for line in lines)
    assert any(line.startswith("cat_20 ") for line in lines)
