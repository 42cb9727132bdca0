"""Training and evaluation of an arm: what is counted, what disturbs what, what is repeatable."""

import json
import math
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dlrm_mtl.config import CheckpointConfig, OptimizerConfig, ScheduleConfig
from dlrm_mtl.data.dataset import open_dataset
from dlrm_mtl.metrics.bucket_sums import ROWS
from dlrm_mtl.metrics.buckets import BUCKETS, bucket_of
from dlrm_mtl.run_config import RunConfig
from tests.datasets import cluster_of, make_dataset, make_table
from tests.distributed.training import Weights, run_config
from tests.metrics.kinds import binary
from tests.metrics.test_sums import keys_of
from tests.ranks import RankPool
from tests.training import runs
from tests.training.runs import Run

MULTIBALANCE = "multibalance:beta=0.5,gamma=0.3"
TASKS = ("click", "like", "buy")
EVAL_ROWS = 200
STEPS = 600 // 48

BY_RANKS = {
    1: [48, 66, 200],
    2: [48, 66, 198, 200],
    3: [48, 66, 201],
}
"""Global batch sizes: local ones divide a rank's eval rows or not, and leave a rank of three a batch of padding."""


def train(pool: RankPool, config: RunConfig, recipe: str = "mean", world_size: int = 1, **options: Any) -> Run:
    """The run as rank 0 saw it."""
    results: list[Run] = pool.run(world_size, runs.train, config, recipe, *options.values())
    return results[0]


def same(left: Weights, right: Weights) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


@pytest.fixture(scope="module")
def untrained(small_dataset: Path, rank_pool: RankPool) -> Run:
    [run] = rank_pool.run(1, runs.evaluate_untrained, run_config(small_dataset))
    assert isinstance(run, Run)
    return run


@pytest.mark.parametrize(
    ("world_size", "batch_size"), [(world_size, size) for world_size, sizes in BY_RANKS.items() for size in sizes]
)
def test_evaluation_counts_every_row_once_on_any_ranks(
    small_dataset: Path, rank_pool: RankPool, untrained: Run, world_size: int, batch_size: int
) -> None:
    config = run_config(small_dataset, batch_size=batch_size)
    expected = torch.bincount(bucket_of(keys_of(~torch.arange(EVAL_ROWS)), BUCKETS), minlength=BUCKETS)
    for result in rank_pool.run(world_size, runs.evaluate_untrained, config):
        assert np.array_equal(result.sums[:, 0, ROWS], expected.numpy())
        assert [task.rows for task in result.metrics] == [task.rows for task in untrained.metrics]
        assert [task.positives for task in binary(result.metrics)] == [
            task.positives for task in binary(untrained.metrics)
        ]
        np.testing.assert_allclose(np.array(result.ne, float), np.array(untrained.ne, float), rtol=1e-6)
        np.testing.assert_allclose(result.sums, untrained.sums, rtol=1e-5, atol=1e-6)


def test_evaluation_counts_are_those_of_the_file(untrained: Run) -> None:
    table = make_table(EVAL_ROWS, seed=2)
    click, like, buy = (np.array(table[name]) for name in TASKS)
    assert [task.rows for task in untrained.metrics] == [EVAL_ROWS, EVAL_ROWS, click.sum()]
    assert [task.positives for task in binary(untrained.metrics)] == [click.sum(), like.sum(), (buy & click).sum()]
    assert all(ne is not None and 0.8 < ne < 1.3 for ne in untrained.ne)


def test_users_and_segments_are_those_of_the_file(tmp_path: Path, rank_pool: RankPool) -> None:
    data = make_dataset(tmp_path / "data", rows=100, eval_rows=EVAL_ROWS, with_context=True)
    config = run_config(data, batch_size=48)
    clicks = np.array(make_table(EVAL_ROWS, seed=2)["click"])
    clusters = [cluster_of(row) for row in range(EVAL_ROWS)]
    classes = [{clicks[row] for row in range(EVAL_ROWS) if clusters[row] == user} for user in set(clusters) - {None}]
    for world_size in (1, 3):
        for found in rank_pool.run(world_size, runs.untrained_evaluation, config):
            assert found.tasks[0].users == sum(of_user == {0, 1} for of_user in classes)
            assert found.tasks[0].gauc == pytest.approx(found.estimates["gauc"].values[0])
            rows = {name: [part.rows for part in values.values()] for name, values in found.segments.items()}
            assert rows == {
                "hour": [len(range(hour, EVAL_ROWS, 24)) for hour in range(24)],
                "tab": [EVAL_ROWS // 2] * 2,
            }


def test_more_ranks_than_batches_of_eval_rows(tmp_path: Path, rank_pool: RankPool) -> None:
    data = make_dataset(tmp_path / "data", rows=100, eval_rows=7)
    config = run_config(data, batch_size=6)
    for result in rank_pool.run(3, runs.evaluate_untrained, config):
        assert result.sums[:, 0, ROWS].sum() == 7


@pytest.mark.parametrize("world_size", [1, 2])
def test_evaluating_twice_gives_the_same(small_dataset: Path, rank_pool: RankPool, world_size: int) -> None:
    once, twice = (
        rank_pool.run(world_size, runs.evaluate_untrained, run_config(small_dataset), times)[0] for times in (1, 2)
    )
    assert np.array_equal(once.sums, twice.sums)
    assert same(once.weights, twice.weights)


SCHEDULED = OptimizerConfig(
    "rowwise_adagrad",
    0.1,
    dense_lr=0.01,
    table_schedule=ScheduleConfig(4, 6, 4, 0.2),
    dense_schedule=ScheduleConfig(3),
)


@pytest.mark.parametrize(("world_size", "recipe"), [(1, "mean"), (2, MULTIBALANCE)])
def test_evaluations_on_the_way_do_not_disturb_training(
    small_dataset: Path, rank_pool: RankPool, world_size: int, recipe: str
) -> None:
    config = run_config(small_dataset, log_every=5, optimizer=SCHEDULED)
    plain = train(rank_pool, config, recipe, world_size)
    disturbed = train(rank_pool, config, recipe, world_size, seed=0, evaluate_often=True)
    assert disturbed.ne == plain.ne
    assert same(disturbed.weights, plain.weights)
    assert [w.metrics for w in disturbed.windows] == [w.metrics for w in plain.windows]


@pytest.mark.parametrize(("world_size", "recipe"), [(1, "mean"), (2, MULTIBALANCE)])
def test_the_logging_interval_does_not_disturb_training(
    small_dataset: Path, rank_pool: RankPool, world_size: int, recipe: str
) -> None:
    results = [train(rank_pool, run_config(small_dataset, log_every=n), recipe, world_size) for n in (3, 7)]
    assert results[0].ne == results[1].ne
    assert same(results[0].weights, results[1].weights)


@pytest.mark.parametrize("recipe", ["mean", MULTIBALANCE])
def test_a_seed_repeats_and_another_differs(small_dataset: Path, rank_pool: RankPool, recipe: str) -> None:
    config = run_config(small_dataset, log_every=3)
    first, again = (train(rank_pool, config, recipe, 2, seed=4) for _ in range(2))
    assert first.ne == again.ne
    assert np.array_equal(first.sums, again.sums)
    assert same(first.weights, again.weights)
    other = train(rank_pool, config, recipe, 2, seed=5)
    assert first.ne != other.ne

    def positives(run: Run) -> list[list[int]]:
        return [[task.positives for task in binary(window.metrics)] for window in run.windows]

    assert positives(first) == positives(again)
    assert positives(first) != positives(other)  # in another order


def test_training_learns(tmp_path: Path, rank_pool: RankPool) -> None:
    data = make_dataset(tmp_path / "data", rows=4000, eval_rows=500)
    config = run_config(data, optimizer=OptimizerConfig(table_lr=0.1, dense_lr=0.003))
    [before] = rank_pool.run(1, runs.evaluate_untrained, config)
    after = train(rank_pool, config)
    assert after.ne[0] is not None
    assert after.ne[0] < before.ne[0] - 0.03
    assert (binary(after.metrics)[0].auc or 0) > 0.6


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({}, 12),
        ({"epochs": 3}, 36),
        ({"max_steps": 5}, 5),
        ({"epochs": 2, "max_steps": 17}, 17),
        ({"max_steps": 100}, 12),
    ],
)
@pytest.mark.parametrize("world_size", [1, 2])
def test_steps_and_windows(
    small_dataset: Path, rank_pool: RankPool, world_size: int, changes: dict[str, Any], steps: int
) -> None:
    run = train(rank_pool, run_config(small_dataset, log_every=5, **changes), world_size=world_size)
    assert run.total_steps == steps
    spans = [(window.first_step, window.last_step) for window in run.windows]
    assert spans == [(first, min(first + 5, steps)) for first in range(0, steps, 5)]
    for window in run.windows:
        assert window.metrics[0].rows == 48 * (window.last_step - window.first_step)
        assert window.lifetime[0].rows == 48 * window.last_step
        assert (window.qps is None) == (window.last_step - window.first_step == 1)
        assert window.qps is None or window.qps > 0


def test_windows_of_one_step_are_not_timed(small_dataset: Path, rank_pool: RankPool) -> None:
    run = train(rank_pool, run_config(small_dataset, log_every=1, max_steps=3))
    assert [window.qps for window in run.windows] == [None] * 3
    assert [window.last_step for window in run.windows] == [1, 2, 3]


def test_lifetime_metrics_are_of_all_windows(small_dataset: Path, rank_pool: RankPool) -> None:
    run = train(rank_pool, run_config(small_dataset, log_every=5), world_size=2)
    for task in range(3):
        parts = [binary(window.metrics)[task] for window in run.windows]
        whole = binary(run.windows[-1].lifetime)[task]
        assert whole.positives == sum(part.positives for part in parts)
        assert all(part.log_loss is not None for part in parts)
        summed = sum(part.rows * part.log_loss for part in parts if part.log_loss is not None)
        assert whole.log_loss == pytest.approx(summed / whole.rows, rel=1e-9)
    assert run.windows[0].metrics == run.windows[0].lifetime


def test_training_counts_are_those_of_the_file(small_dataset: Path, rank_pool: RankPool) -> None:
    """An epoch of 12 whole batches of 50 has every training row once, on each number of ranks."""
    schema = open_dataset(small_dataset).schema
    click = np.array(make_table(600, seed=1)["click"])
    assert schema.rows("train") == 600
    for world_size in (1, 2):
        run = train(rank_pool, run_config(small_dataset, batch_size=50, epochs=2), world_size=world_size)
        lifetime = binary(run.windows[-1].lifetime)
        assert lifetime[0].rows == 1200
        assert lifetime[0].positives == 2 * click.sum()
        assert lifetime[2].rows == 2 * click.sum()


@pytest.mark.parametrize("recipe", ["mean", "sum", "static:weights=1/2/1", MULTIBALANCE])
@pytest.mark.parametrize("world_size", [1, 2])
def test_every_arm_has_balancing_diagnostics(
    small_dataset: Path, rank_pool: RankPool, world_size: int, recipe: str
) -> None:
    run = train(rank_pool, run_config(small_dataset, log_every=5), recipe, world_size)
    for window in run.windows:
        values = window.balancing
        for name in ("task_weights", "coefficients", "gradient_norms", "weighted_gradient_norms"):
            assert tuple(values[name]) == TASKS
            assert all(value > 0 and math.isfinite(value) for value in values[name].values()), name
        assert list(values["cosines"]) == [f"{left}/{right}" for left, right in combinations(TASKS, 2)]
        assert all(-1 - 1e-9 <= value <= 1 + 1e-9 and value != 0 for value in values["cosines"].values())
        for task in TASKS:
            weighted = values["coefficients"][task] * values["gradient_norms"][task]
            assert values["weighted_gradient_norms"][task] == pytest.approx(weighted)
        assert 0 < values["pareto_gap"] <= min(values["gradient_norms"].values()) * (1 + 1e-6)
        assert values["nonfinite_steps"] == 0
        json.dumps(values, allow_nan=False)


@pytest.mark.parametrize(
    ("recipe", "weights"), [("mean", [1 / 3] * 3), ("sum", [1] * 3), ("static:weights=1/2/4", [1, 2, 4])]
)
def test_diagnostics_of_fixed_weights(
    small_dataset: Path, rank_pool: RankPool, recipe: str, weights: list[float]
) -> None:
    for window in train(rank_pool, run_config(small_dataset, log_every=5), recipe).windows:
        values = window.balancing
        ratios = [values["weighted_gradient_norms"][task] / values["gradient_norms"][task] for task in TASKS]
        np.testing.assert_allclose(ratios, weights, rtol=1e-6)
        np.testing.assert_allclose(list(values["task_weights"].values()), weights, rtol=1e-6)


def test_diagnostics_are_of_the_global_batch(small_dataset: Path, rank_pool: RankPool) -> None:
    """Before the first update, with the rows of one global batch of all rows on one and on three ranks."""
    config = run_config(small_dataset, batch_size=600, log_every=1, max_steps=1)
    alone, together = (train(rank_pool, config, "mean", world_size).windows[0].balancing for world_size in (1, 3))
    for name in ("gradient_norms", "weighted_gradient_norms", "cosines"):
        expected = list(alone[name].values())
        np.testing.assert_allclose(list(together[name].values()), expected, rtol=1e-4, atol=1e-5, err_msg=name)


def test_the_control_observes_outside_timed_steps_alone(small_dataset: Path, rank_pool: RankPool) -> None:
    """A Gramian per window, in its last step, which is not timed."""
    config = run_config(small_dataset, log_every=5)
    last = [step in (4, 9, 11) for step in range(STEPS)]
    for world_size in (1, 2):
        assert rank_pool.run(world_size, runs.recorded_gramians, config, "mean") == [last] * world_size
    assert rank_pool.run(1, runs.recorded_gramians, config, MULTIBALANCE) == [[True] * STEPS]


@pytest.mark.parametrize(("world_size", "recipe"), [(1, "mean"), (2, MULTIBALANCE)])
def test_bf16_stays_close(small_dataset: Path, rank_pool: RankPool, world_size: int, recipe: str) -> None:
    config = run_config(small_dataset)
    exact = train(rank_pool, config, recipe, world_size)
    rounded = train(rank_pool, replace(config, bf16=True), recipe, world_size)
    assert rounded.ne != exact.ne
    np.testing.assert_allclose(np.array(rounded.ne, float), np.array(exact.ne, float), rtol=0.02)


@pytest.mark.parametrize("reduction", ["delayed", "local"])
def test_other_reductions_train(small_dataset: Path, rank_pool: RankPool, reduction: str) -> None:
    config = run_config(small_dataset, log_every=4)
    run = train(rank_pool, config, f"{MULTIBALANCE},reduction={reduction}", 2)
    assert all(ne is not None and ne < 1.5 for ne in run.ne)
    assert run.ne != train(rank_pool, config, MULTIBALANCE, 2).ne


ARMS = ("mean", MULTIBALANCE)


@pytest.mark.parametrize("world_size", [1, 2])
def test_arms_side_by_side_equal_each_alone(
    small_dataset: Path, rank_pool: RankPool, tmp_path: Path, world_size: int
) -> None:
    config = run_config(small_dataset, log_every=3, eval_every=4, out=tmp_path)
    together = rank_pool.run(world_size, runs.side_by_side, config, ARMS, 1)[0]
    assert tuple(together) == ARMS
    for arm in ARMS:
        alone = train(rank_pool, config, arm, world_size, seed=1)
        assert together[arm].evaluation.tasks == alone.metrics
        assert np.array_equal(together[arm].evaluation.sums, alone.sums)
        assert len(together[arm].qps) == 3  # four windows, one of them to warm up
    assert together[ARMS[0]].evaluation.tasks != together[ARMS[1]].evaluation.tasks


def test_logs_of_arms_side_by_side(small_dataset: Path, rank_pool: RankPool, tmp_path: Path) -> None:
    config = run_config(small_dataset, log_every=3, eval_every=4, warmup_windows=0, out=tmp_path)
    results = rank_pool.run(2, runs.side_by_side, config, ARMS, 0)
    for arm, folder in zip(ARMS, ("mean", "multibalance-beta=0.5,gamma=0.3"), strict=True):
        lines = [json.loads(line) for line in (tmp_path / folder / "metrics.jsonl").read_text().splitlines()]
        # Steps 4 and 8 fall into the windows that end at 6 and 9; the last evaluation is at the end in any case.
        assert [(line["kind"], line["step"]) for line in lines] == [
            *(("train", 3), ("train", 6), ("eval", 6), ("train", 9), ("eval", 9), ("train", 12), ("eval", 12)),
        ]
        assert lines[-1]["tasks"]["click"]["ne"] == results[0][arm].evaluation.tasks[0].ne
        assert len(results[0][arm].qps) == 4
        assert [line["qps"] for line in lines if line["kind"] == "train"] == list(results[0][arm].qps)
        # Of the same window, with what its speed leaves out.
        assert len(results[0][arm].end_to_end_qps) == 4
        assert all(rate > 0 for rate in results[0][arm].end_to_end_qps)


def test_logs_are_on_the_disk_before_a_checkpoint_counts_on_them(
    small_dataset: Path, rank_pool: RankPool, tmp_path: Path
) -> None:
    every_window = CheckpointConfig(every_steps=3)
    config = run_config(small_dataset, log_every=3, checkpoint=every_window, out=tmp_path)
    order = rank_pool.run(1, runs.order_of_saving, config)[0]
    assert order == [*("log", "checkpoint") * 4, "log"]
