"""A loss or gradient of one task that is not finite, in one batch on one rank, does no harm: the step has no effect on
any rank, is counted, and training goes on as if the batch had never come."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlrm_mtl.config import ModelConfig, OptimizerConfig, ScheduleConfig
from dlrm_mtl.run_config import RunConfig
from tests.distributed.training import Weights, run_config
from tests.messages import mentions
from tests.ranks import RankPool
from tests.training import faults
from tests.training.faults import Faults, Trace

FAULTS: Faults = {2: "nan loss", 4: "inf loss", 5: "inf gradient"}
STEPS = 8
GOOD = [step for step in range(STEPS) if step not in FAULTS]

OPTIMIZERS = {
    "rowwise_adagrad, adam": OptimizerConfig("rowwise_adagrad", 0.1, dense_lr=0.01, clip_norm=0.5),
    "adagrad, adagrad": OptimizerConfig("adagrad", 0.1, dense="adagrad", dense_lr=0.01, weight_decay=0.1),
    "sgd, adamw": OptimizerConfig("sgd", 0.1, dense="adamw", dense_lr=0.01, weight_decay=0.1),
    "sgd, sgd": OptimizerConfig("sgd", 0.1, dense="sgd", dense_lr=0.1, weight_decay=0.1),
}

MULTIBALANCE = "multibalance:beta=0.5,gamma=0.3"
RECIPES = [
    "mean",
    MULTIBALANCE,
    f"{MULTIBALANCE},reduction=delayed",
    f"{MULTIBALANCE},reduction=local",
    "graddrop",
    "moco",
    "db_mtl:log_losses=true",
    "uncertainty",
    "imtl_l+imtl_g",
    "mgda:level=dense",
    "mean:level=dense",
    "graddrop:level=interaction",
    f"{MULTIBALANCE},level=embedding",
]


def config_of(data: Path, optimizer: str = "rowwise_adagrad, adam", **changes: Any) -> RunConfig:
    options = {"model": ModelConfig(interaction="dcn"), "optimizer": OPTIMIZERS[optimizer], **changes}
    return run_config(data, **options)


def train(pool: RankPool, world_size: int, config: RunConfig, recipe: str) -> tuple[list[Trace], list[Trace]]:
    """By rank, a run in which the last rank has faults, and one without those batches."""
    rank = world_size - 1
    return (
        pool.run(world_size, faults.train, config, recipe, range(STEPS), FAULTS, rank),
        pool.run(world_size, faults.train, config, recipe, GOOD, {}, rank),
    )


def differences(left: Weights, right: Weights) -> set[str]:
    assert left.keys() >= right.keys()  # Adam has no state before its first step
    return {name for name in right if not np.array_equal(left[name], right[name])}


def counters(recipe: str) -> set[str]:
    """What may differ though nothing has happened: counts of steps; without a statistic nobody knows yet."""
    prefix = "dense_part.balancing.balancer."
    measures_nothing = recipe in ("mean", "uncertainty", "graddrop")
    return {f"{prefix}nonfinite_steps", *([f"{prefix}step"] if measures_nothing else [])}


def assert_no_harm(traces: list[Trace], never: list[Trace], recipe: str) -> None:
    for rank, (trace, clean) in enumerate(zip(traces, never, strict=True)):
        assert trace.skipped == [step in FAULTS for step in range(STEPS)]
        assert not any(clean.skipped)
        allowed = counters(recipe)
        if "reduction" in recipe:  # delayed: the step before is only learned from now; local: of other ranks' own rows
            allowed |= {name for name in trace.states[-1] if ".balancing." in name}
        for step in range(STEPS):
            changed = differences(trace.states[step + 1], trace.states[step])
            if step in FAULTS:
                assert changed <= allowed, (rank, step)
            else:
                assert any("embedding_bags" in name for name in changed), (rank, step)
                assert any("heads" in name for name in changed), (rank, step)
        assert all(np.isfinite(value).all() for value in trace.states[-1].values())
        if "graddrop" not in recipe and "local" not in recipe:  # it draws anew; each rank learns from its rows
            assert differences(trace.states[-1], clean.states[-1]) <= counters(recipe)


@pytest.mark.parametrize("recipe", RECIPES)
def test_no_harm_on_two_ranks(small_dataset: Path, rank_pool: RankPool, recipe: str) -> None:
    assert_no_harm(*train(rank_pool, 2, config_of(small_dataset), recipe), recipe)


@pytest.mark.parametrize("recipe", ["mean", MULTIBALANCE, f"{MULTIBALANCE},reduction=delayed"])
@pytest.mark.parametrize("world_size", [1, 3])
def test_no_harm_on_other_ranks(small_dataset: Path, rank_pool: RankPool, world_size: int, recipe: str) -> None:
    assert_no_harm(*train(rank_pool, world_size, config_of(small_dataset), recipe), recipe)


def test_local_state_of_the_rank_itself(small_dataset: Path, rank_pool: RankPool) -> None:
    traces, never = train(rank_pool, 1, config_of(small_dataset), RECIPES[3])
    assert differences(traces[0].states[-1], never[0].states[-1]) == counters(RECIPES[3])


@pytest.mark.parametrize("recipe", ["mean", MULTIBALANCE])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_optimizer_moves(small_dataset: Path, rank_pool: RankPool, optimizer: str, recipe: str) -> None:
    assert_no_harm(*train(rank_pool, 2, config_of(small_dataset, optimizer), recipe), recipe)


@pytest.mark.parametrize("interaction", ["dot", "low_rank_dcn", "deepfm", "projection"])
def test_no_interaction_lets_it_through(small_dataset: Path, rank_pool: RankPool, interaction: Any) -> None:
    """With units that are off for some rows between the layer and the tables."""
    config = config_of(small_dataset, model=ModelConfig(interaction, numeric_frequencies=3, over_mlp=(16,)))
    assert_no_harm(*train(rank_pool, 2, config, "mean"), "mean")


@pytest.mark.parametrize("recipe", ["mean", MULTIBALANCE])
def test_no_harm_under_bf16(small_dataset: Path, rank_pool: RankPool, recipe: str) -> None:
    assert_no_harm(*train(rank_pool, 2, config_of(small_dataset, bf16=True), recipe), recipe)


@pytest.mark.parametrize(
    ("recipe", "counts"),
    # Without a Gramian, a gradient of a finite loss does not tell its task; passes of their own meet each other's.
    [("mean", [0, 2, 0]), (MULTIBALANCE, [0, 3, 0]), ("moco", [0, 3, 0]), ("mgda:level=dense", [1, 3, 1])],
)
def test_the_rank_knows_its_tasks(small_dataset: Path, rank_pool: RankPool, recipe: str, counts: list[int]) -> None:
    traces, _ = train(rank_pool, 2, config_of(small_dataset), recipe)
    assert [trace.nonfinite_tasks for trace in traces] == [[0, 0, 0], counts]


@pytest.mark.parametrize("recipe", ["mean", MULTIBALANCE])
@pytest.mark.parametrize("world_size", [1, 2])
def test_windows_leave_skipped_steps_out(
    small_dataset: Path, rank_pool: RankPool, world_size: int, recipe: str
) -> None:
    config = config_of(small_dataset, log_every=1)
    for windows, total, error in rank_pool.run(
        world_size, faults.train_windows, config, recipe, FAULTS, world_size - 1
    ):
        assert (total, error) == (3, "")
        assert [window.skipped_steps for window in windows] == [int(step in FAULTS) for step in range(12)]
        for step, window in enumerate(windows):
            assert window.nonfinite_tasks == {"click": 0, "like": int(step in FAULTS), "buy": 0}
            if step in FAULTS:
                assert window.metrics[0].rows == 0
                assert window.lifetime == windows[step - 1].lifetime
            else:
                assert window.metrics[0].rows == 48
                assert window.metrics[0].ne is not None


def test_windows_of_several_steps_count_alike(small_dataset: Path, rank_pool: RankPool) -> None:
    fine = rank_pool.run(2, faults.train_windows, config_of(small_dataset, log_every=1), MULTIBALANCE, FAULTS, 1)[0]
    wide = rank_pool.run(2, faults.train_windows, config_of(small_dataset, log_every=4), MULTIBALANCE, FAULTS, 1)[0]
    assert [window.skipped_steps for window in wide[0]] == [1, 2, 0]
    assert [window.nonfinite_tasks["like"] for window in wide[0]] == [1, 2, 0]
    for mine, theirs in zip(wide[0][-1].lifetime, fine[0][-1].lifetime, strict=True):
        assert (mine.rows, mine.positives, mine.auc) == (theirs.rows, theirs.positives, theirs.auc)
        assert mine.log_loss == pytest.approx(theirs.log_loss, rel=1e-12)


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("recipe", ["mean", MULTIBALANCE])
def test_too_many_in_a_row_stop_the_run(small_dataset: Path, rank_pool: RankPool, recipe: str, world_size: int) -> None:
    """Over the end of a window too."""
    config = config_of(small_dataset, log_every=4, max_nonfinite_steps=3)
    broken: Faults = {3: "nan loss", 4: "inf loss", 5: "nan loss"}
    results = rank_pool.run(world_size, faults.train_windows, config, recipe, broken, world_size - 1)
    for windows, total, error in results:
        assert (len(windows), total) == (1, 3)
        assert error == (
            f"arm '{recipe}': 3 steps in a row were skipped up to step 8, expected less than max_nonfinite_steps=3;"
            " losses or gradients that are not finite: like (2 times, over all ranks)"
        )


def test_a_cause_without_a_task(small_dataset: Path, rank_pool: RankPool) -> None:
    config = config_of(small_dataset, log_every=4, max_nonfinite_steps=1)
    for _, _, error in rank_pool.run(2, faults.train_windows, config, "mean", {1: "inf gradient"}, 1):
        assert mentions(error, "not finite", "no task")


def test_few_in_a_row_do_not_stop_it(small_dataset: Path, rank_pool: RankPool) -> None:
    config = config_of(small_dataset, log_every=4, max_nonfinite_steps=3)
    broken: Faults = dict.fromkeys((0, 1, 3, 4, 6, 7, 9, 11), "nan loss")
    for windows, total, error in rank_pool.run(2, faults.train_windows, config, "mean", broken, 1):
        assert (len(windows), total, error) == (3, 8, "")


def test_schedules_count_skipped_steps(small_dataset: Path, rank_pool: RankPool) -> None:
    """Steps after a skipped one have the rate of their place in the run: the last of two is at 0."""
    schedule = ScheduleConfig(0, 1, 2, 0.0)
    optimizer = OptimizerConfig("sgd", 0.1, dense="sgd", table_schedule=schedule, dense_schedule=schedule)
    config = run_config(small_dataset, optimizer=optimizer)
    for trace in rank_pool.run(2, faults.train, config, "mean", range(4), {1: "nan loss"}, 1):
        changed = [differences(*trace.states[step : step + 2]) - counters("mean") for step in range(4)]
        assert [bool(names) for names in changed] == [True, False, True, False]


@pytest.mark.parametrize("recipe", ["mean", "uncertainty"])
def test_the_optimizers_state_is_laid_out_as_ever(small_dataset: Path, rank_pool: RankPool, recipe: str) -> None:
    parts = {"tables", "dense", *(["loss_weights"] if recipe == "uncertainty" else [])}
    for found in rank_pool.run(2, faults.optimizer_after_initialization, config_of(small_dataset), recipe):
        assert found == (parts, 0)
