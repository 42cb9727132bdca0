"""Training on a GPU: as on a CPU, without waiting for the device."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dlrm_mtl.config import CommsConfig, ModelConfig, OptimizerConfig, ShardingConfig
from dlrm_mtl.model_parts import INTERACTIONS
from dlrm_mtl.run_config import RunConfig
from tests.distributed.training import assemble, train_steps
from tests.entry_points.processes import python
from tests.gpu import steps
from tests.gpu.steps import run_config
from tests.ranks import RankPool
from tests.training import resuming, runs

pytestmark = pytest.mark.gpu

MULTIBALANCE = "multibalance:beta=0.5,gamma=0.3"
TWO_GPUS = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")


@pytest.mark.parametrize("interaction", INTERACTIONS)
@pytest.mark.parametrize("recipe", ["mean", MULTIBALANCE])
def test_as_on_a_cpu(
    small_dataset: Path, rank_pool: RankPool, cpu_pool: RankPool, interaction: str, recipe: str
) -> None:
    optimizer = OptimizerConfig(table="sgd", table_lr=0.1, dense="sgd", dense_lr=0.02)
    model = ModelConfig(interaction=interaction, over_mlp=(24,))  # type: ignore[arg-type]
    config = replace(run_config(small_dataset), model=model, optimizer=optimizer)
    assert_as_on_a_cpu(config, recipe, rank_pool, cpu_pool)


def test_regressions_and_a_fade_as_on_a_cpu(regression_dataset: Path, rank_pool: RankPool, cpu_pool: RankPool) -> None:
    optimizer = OptimizerConfig(table="sgd", table_lr=0.1, dense="sgd", dense_lr=0.02)
    config = replace(run_config(regression_dataset), optimizer=optimizer)
    assert_as_on_a_cpu(config, f"{MULTIBALANCE},fade=3", rank_pool, cpu_pool)


def assert_as_on_a_cpu(config: RunConfig, recipe: str, rank_pool: RankPool, cpu_pool: RankPool) -> None:
    on_gpu, on_cpu = (pool.run(1, train_steps, config, recipe, 4) for pool in (rank_pool, cpu_pool))
    assert on_gpu[0]["pipelined"] == on_gpu[0]["sharded"] == 1
    for name in ("losses", "task_weights", "coefficients"):
        np.testing.assert_allclose(on_gpu[0][name], on_cpu[0][name], rtol=1e-3, atol=1e-5, err_msg=name)
    weights, expected = assemble(on_gpu, "final"), assemble(on_cpu, "final")
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(weights[name], value, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("table", ["rowwise_adagrad", "adagrad", "sgd", "adam"])
@pytest.mark.parametrize("dense", ["adam", "adamw", "adagrad", "sgd"])
def test_optimizers_learn(small_dataset: Path, rank_pool: RankPool, table: str, dense: str) -> None:
    config = run_config(small_dataset, optimizer=OptimizerConfig(table, 0.02, dense=dense), epochs=2)  # type: ignore[arg-type]
    [before] = rank_pool.run(1, runs.evaluate_untrained, config)
    [after] = rank_pool.run(1, runs.train, config, MULTIBALANCE)
    assert after.ne[0] < before.ne[0]


@pytest.mark.parametrize(
    "recipe", ["mean", MULTIBALANCE, f"{MULTIBALANCE},reduction=delayed,fade=5", "uncertainty", "mgda"]
)
def test_a_step_never_waits(small_dataset: Path, rank_pool: RankPool, recipe: str) -> None:
    config = run_config(small_dataset, optimizer=OptimizerConfig(clip_norm=1.0))
    assert rank_pool.run(1, steps.steps_that_never_wait, config, recipe) == [steps.WARM_UP + 4]


@pytest.mark.parametrize("recipe", ["mean", MULTIBALANCE])
def test_the_pipeline_waits_for_the_exchange_of_ids_alone(
    small_dataset: Path, rank_pool: RankPool, recipe: str
) -> None:
    config = run_config(small_dataset, optimizer=OptimizerConfig())
    [found] = rank_pool.run(1, steps.waits_of_the_pipeline, config, recipe)
    assert found == []


def test_bf16_and_tf32_stay_close(small_dataset: Path, rank_pool: RankPool) -> None:
    config = run_config(small_dataset, model=ModelConfig("dcn", bottom_mlp=(256,), over_mlp=(256,)))
    [exact] = rank_pool.run(1, runs.train, config, MULTIBALANCE)
    [bf16] = rank_pool.run(1, runs.train, replace(config, bf16=True), MULTIBALANCE)
    [tf32] = rank_pool.run(1, steps.train_in_tf32, config, MULTIBALANCE)
    for rounded in (bf16, tf32):
        assert rounded.ne != exact.ne
        np.testing.assert_allclose(np.array(rounded.ne, float), np.array(exact.ne, float), rtol=0.02)


@pytest.mark.parametrize("optimizer", [OptimizerConfig(), OptimizerConfig(table="adam", dense="adamw")])
def test_a_checkpoint_goes_on(
    small_dataset: Path, rank_pool: RankPool, tmp_path: Path, optimizer: OptimizerConfig
) -> None:
    config = run_config(small_dataset, log_every=5, epochs=2, optimizer=optimizer)
    arms = ["mean", f"{MULTIBALANCE},reduction=delayed"]
    [plain] = rank_pool.run(1, resuming.run_part, config, tmp_path / "plain", arms)
    first, second = (
        rank_pool.run(1, resuming.run_part, config, tmp_path / "stopped", arms, until)[0] for until in (10, None)
    )
    for arm in range(len(arms)):
        assert all(np.array_equal(second.before[arm][name], value) for name, value in first.after[arm].items())
        for name, value in plain.after[arm].items():
            np.testing.assert_allclose(second.after[arm][name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_a_checkpoint_goes_on_without_gpus(
    small_dataset: Path, rank_pool: RankPool, cpu_pool: RankPool, tmp_path: Path
) -> None:
    config = run_config(small_dataset, log_every=5)
    [first] = rank_pool.run(1, resuming.run_part, config, tmp_path / "run", ["mean"], 5)
    [second] = cpu_pool.run(1, resuming.run_part, config, tmp_path / "run", ["mean"])
    weights = [name for name in first.after[0] if "embedding_bags" in name]
    assert weights
    for name in weights:
        np.testing.assert_array_equal(second.before[0][name], first.after[0][name], err_msg=name)


def test_the_entry_point_with_every_option(small_dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = python(
        "dlrm_mtl.train", "--data", small_dataset, "--out", out, "--batch-size", "60", "--bf16", "True",
        "--tf32", "True", "--sharding.kernels", "fused_uvm_caching", "--sharding.cache-load-factor", "0.5",
        "--sharding.prefetch", "True", "--reader.workers", "1",
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert json.loads((out / "environment.json").read_text())["device"] == "cuda:0"
    assert {table["compute_kernel"] for table in json.loads((out / "plan.json").read_text())} == {"fused_uvm_caching"}


@TWO_GPUS
@pytest.mark.parametrize("kind", ["table_wise", "row_wise", "column_wise"])
def test_two_gpus_train_as_one(small_dataset: Path, rank_pool: RankPool, kind: str) -> None:
    config = run_config(small_dataset)
    alone, together = (rank_pool.run(size, train_steps, config, MULTIBALANCE, 4, kind) for size in (1, 2))
    for name in ("losses", "task_weights"):
        np.testing.assert_allclose(together[0][name], alone[0][name], rtol=1e-3, atol=1e-5, err_msg=name)


@TWO_GPUS
@pytest.mark.parametrize("kind", ["table_wise", "row_wise"])
@pytest.mark.parametrize("comms", [CommsConfig("fp16", "bf16"), CommsConfig("bf16", "bf16")])
def test_reduced_precision_between_two_gpus(
    small_dataset: Path, rank_pool: RankPool, comms: CommsConfig, kind: str
) -> None:
    exact, rounded = (
        rank_pool.run(2, train_steps, replace(run_config(small_dataset), sharding=sharding), MULTIBALANCE, 4, kind)[0]
        for sharding in (ShardingConfig(), ShardingConfig(comms=comms))
    )
    assert not np.array_equal(rounded["losses"], exact["losses"])
    np.testing.assert_allclose(rounded["losses"], exact["losses"], atol=0.01)
