"""Options that a machine cannot honour are refused, in one line, before any work."""

from pathlib import Path
from typing import Any

import pytest

from dlrm_mtl.config import CommsConfig, OptimizerConfig, ShardingConfig
from dlrm_mtl.run_config import RunConfig
from dlrm_mtl.training.machine import Machine, check_machine
from tests.entry_points.processes import complaint, python
from tests.messages import mentions

CPU = Machine("cpu")
VOLTA = Machine("cuda", (7, 0))
HOPPER = Machine("cuda", (9, 0))


def config(**changes: Any) -> RunConfig:
    return RunConfig(Path("data"), Path("out"), **changes)


@pytest.mark.parametrize(
    ("machine", "changes", "message"),
    [
        (CPU, {"tf32": True}, r"tf32 is True, expected False on a CPU"),
        (CPU, {"optimizer": OptimizerConfig("adam")}, r"optimizer\.table is 'adam', expected rowwise_adagrad, "),
        (CPU, {"sharding": ShardingConfig(("row_wise",))}, r"sharding\.kinds has 'row_wise', expected .* on a CPU"),
        (CPU, {"sharding": ShardingConfig(("table_row_wise",))}, r"sharding\.kinds has 'table_row_wise', expected"),
        (CPU, {"sharding": ShardingConfig(("grid_shard",))}, r"sharding\.kinds has 'grid_shard', expected"),
        (CPU, {"sharding": ShardingConfig(kernels=("fused_uvm_caching",))}, r"sharding\.kernels is .* on a CPU"),
        (CPU, {"sharding": ShardingConfig(cache_load_factor=0.5)}, r"sharding\.cache_load_factor is 0\.5, .* on a CPU"),
        (CPU, {"sharding": ShardingConfig(prefetch=True)}, r"sharding\.prefetch is True, expected .* on a CPU"),
        (CPU, {"sharding": ShardingConfig(comms=CommsConfig("bf16"))}, r"sharding\.comms\.forward is 'bf16', .* CPU"),
        (VOLTA, {"tf32": True}, r"tf32 is True, expected False on a GPU of compute capability 7\.0"),
        (VOLTA, {"bf16": True}, r"bf16 is True, expected False on a GPU of compute capability 7\.0"),
        (
            HOPPER,
            {"sharding": ShardingConfig(("column_wise",))},
            r"sharding\.kinds has 'column_wise', .*one value per row",
        ),
    ],
)
def test_what_is_refused(machine: Machine, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}") as error:
        check_machine(config(**changes), machine)
    assert "\n" not in str(error.value)


def test_what_is_taken() -> None:
    for machine in (CPU, VOLTA, HOPPER):
        check_machine(config(), machine)
    check_machine(config(bf16=True), CPU)
    everything = ShardingConfig(
        ("row_wise", "grid_shard"), kernels=("fused_uvm_caching",), cache_load_factor=0.3, prefetch=True,
        comms=CommsConfig("fp16", "bf16"),
    )  # fmt: skip
    check_machine(config(tf32=True, bf16=True, optimizer=OptimizerConfig("adam"), sharding=everything), HOPPER)


def test_it_is_said_before_the_data_is_looked_at(tmp_path: Path) -> None:
    process = python("dlrm_mtl.train", "--data", tmp_path / "absent", "--out", tmp_path / "run", "--tf32", "True")
    assert mentions(complaint(process), "train", "tf32", True, "CPU")
    assert not (tmp_path / "run").exists()
